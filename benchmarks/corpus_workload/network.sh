# Two network namespaces a and b that talk through everything that lies between them.

spaces() {
for n in a b c
do ip netns add $n
ip netns exec $n ip link set lo up
done
ip link add va netns a type veth peer name vb netns b
N="ip netns exec"
$N a ip addr add 10.0.0.1/24 dev va
$N b ip addr add 10.0.0.2/24 dev vb
$N a ip link set va up
$N b ip link set vb up
$N a ip addr add fd00::1/64 dev va nodad
$N b ip addr add fd00::2/64 dev vb nodad
}

talk(){ $N b ping -c 2 -i 0.2 -W 1 ${1:-10.0.0.1} >/dev/null; }
stream() { $N a iperf3 -s -1 -D -p 5900; sleep 0.5; $N b timeout 15 iperf3 -c ${1:-10.0.0.1} -p 5900 -t 1 $2 $3 >/dev/null; }

end_spaces() {
for n in a b c
do ip netns pids $n | xargs -r kill
ip netns del $n
done
true
}

step_talk() {
spaces
talk
talk fd00::1
stream
stream fd00::1
stream 10.0.0.1 -u
stream 10.0.0.1 -Z
stream 10.0.0.1 --sctp
$N a ss -anpOe --info
$N a ss -anp -f all
cat /proc/net/* > /dev/null
$N a ip -s -d a
$N a ip r get 10.0.0.2
$N a nstat
$N b ping -c 1 -s 4000 10.0.0.1
$N b ping -c1 -s 4000 fd00::1
$N b tracepath -n 10.0.0.1
$N a ip n
$N a ip maddr
$N a ethtool -k va
$N a ethtool -S va
$N a ethtool -K va tx off tso off gso off gro off
stream
$N a timeout 3 tcpdump -c 5 -i va -w /dev/null & sleep 1
talk
wait
end_spaces
}

step_routes() {
spaces
for i in $(seq 50)
do $N a ip r add 10.1.$i.0/24 via 10.0.0.2
$N a ip -6 r add fd01:$i::/64 via fd00::2
done
$N a ip r add 10.7.0.0/24 nexthop via 10.0.0.2 weight 1 nexthop via 10.0.0.3 weight 2
$N a ip nexthop add id 1 via 10.0.0.2 dev va
$N a ip nexthop add id 2 group 1
$N a ip r add 10.8.0.0/24 nhid 2
$N a ip nexthop
$N a ip r show table all
$N a ip rule add fwmark 1 table 9 pref 8
$N a ip -6 rule add from fd00::/64 table 9
$N a ip r flush cache
$N a ip r add default via 10.0.0.2 mtu lock 1400
$N a ip mroute
$N b sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
modprobe -a mpls_router mpls_iptunnel
$N a sysctl -w net.mpls.platform_labels=100 net.mpls.conf.va.input=1
$N a ip -f mpls r add 20 via inet 10.0.0.2
$N a ip r add 10.60.0.0/24 encap mpls 20 via 10.0.0.2
$N a ping -c1 -W1 10.60.0.1
$N a ip -6 r add fd77::/64 encap seg6 mode encap segs fd00::2 dev va
$N a ping -c1 -W1 fd77::1
$N a ip r add 10.61.0.0/24 encap ip id 3 dst 10.0.0.2 dev va
modprobe ila
$N a ip -6 r add fd78::/64 encap ila 1:2:3:4 csum-mode no-action via fd00::2
$N a ping -c1 -W1 fd78::1
$N a ip r flush table main
$N a ip addr flush dev va
$N a ip token
$N a ip addrlabel
$N a ip ntable
$N a ip tcp_metrics
end_spaces
}

step_tunnels() {
spaces
$N a ip link add t0 type gre local 10.0.0.1 remote 10.0.0.2 key 4 csum seq
$N b ip link add t0 type gre local 10.0.0.2 remote 10.0.0.1 key 4 csum seq
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type gretap local 10.0.0.1 remote 10.0.0.2
$N b ip link add t0 type gretap local 10.0.0.2 remote 10.0.0.1
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type ipip local 10.0.0.1 remote 10.0.0.2
$N b ip link add t0 type ipip local 10.0.0.2 remote 10.0.0.1
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type sit local 10.0.0.1 remote 10.0.0.2
$N b ip link add t0 type sit local 10.0.0.2 remote 10.0.0.1
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type vti local 10.0.0.1 remote 10.0.0.2 key 5
$N b ip link add t0 type vti local 10.0.0.2 remote 10.0.0.1 key 5
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type ip6tnl local fd00::1 remote fd00::2 mode any
$N b ip link add t0 type ip6tnl local fd00::2 remote fd00::1 mode any
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type ip6gre local fd00::1 remote fd00::2
$N b ip link add t0 type ip6gre local fd00::2 remote fd00::1
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type ip6gretap local fd00::1 remote fd00::2
$N b ip link add t0 type ip6gretap local fd00::2 remote fd00::1
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type vxlan id 5 remote 10.0.0.2 dstport 4789
$N b ip link add t0 type vxlan id 5 remote 10.0.0.1 dstport 4789
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type geneve id 5 remote 10.0.0.2
$N b ip link add t0 type geneve id 5 remote 10.0.0.1
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type erspan local 10.0.0.1 remote 10.0.0.2 seq key 4 erspan_ver 1 erspan 1
$N b ip link add t0 type erspan local 10.0.0.2 remote 10.0.0.1 seq key 4 erspan_ver 1 erspan 1
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type bareudp dstport 6635 ethertype mpls_uc
$N b ip link add t0 type bareudp dstport 6635 ethertype mpls_uc
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
$N a ip link add t0 type amt mode gateway local 10.0.0.1 discovery 10.0.0.2 dev va
$N b ip link add t0 type amt mode gateway local 10.0.0.2 discovery 10.0.0.1 dev va
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0
modprobe fou
$N a ip fou add port 5555 ipproto 4
$N b ip fou add port 5555 ipproto 4
$N a ip fou add port 5556 gue
$N a ip fou show
$N a ip link add t0 type ipip local 10.0.0.1 remote 10.0.0.2 encap fou encap-sport auto encap-dport 5555
$N b ip link add t0 type ipip local 10.0.0.2 remote 10.0.0.1 encap fou encap-sport auto encap-dport 5555
$N a ip addr add 10.9.0.1/24 dev t0
$N b ip addr add 10.9.0.2/24 dev t0
$N a ip link set t0 up
$N b ip link set t0 up
$N a ip -d -s link show t0
talk 10.9.0.1
$N a ip link del t0
$N b ip link del t0

end_spaces
}

step_links() {
spaces
for k in dummy ifb bridge bond team vcan vxcan nlmon macsec:va vrf:x batadv hsr
do $N a ip link add x type ${k%%:*}
$N a ip -d link show x
$N a ip link set x up
$N a ip addr add 10.5.0.1/24 dev x
$N a ip link del x
done
for k in 'vlan id 5' 'vlan id 6 protocol 802.1ad' macvlan 'macvtap mode bridge' ipvlan 'ipvlan mode l3s' ipvtap 'macsec encrypt on' 'vrf table 9'
do L='link va'
case $k in vrf*) L=;; esac
$N a ip link add $L name x type $k
$N a ip addr add 10.5.0.1/24 dev x
$N a ip link set x up
$N a ping -c1 -W1 10.5.0.2
$N a ip -s -d link show x
$N a ip link set x mtu 1300
$N a ip link del x
done
$N b ip link add br0 type bridge vlan_filtering 1 stp_state 1 mcast_snooping 1
$N b ip link set vb master br0
$N b ip link set br0 up
$N b ip addr add 10.0.0.3/24 dev br0
$N b bridge vlan add vid 5-9 dev vb
$N b bridge vlan add vid 8 tunnel_info id 9 dev vb
$N b bridge fdb
$N b bridge mdb
$N b bridge fdb add 02:00:00:00:00:09 dev vb master
$N b bridge mdb add dev br0 port vb grp 239.1.1.1
$N b ip link set br0 type bridge mcast_querier 1
$N a ping -c2 -i.2 10.0.0.3
sleep 1
$N b bridge -d -s link
$N b bridge vlan
$N b bridge -d -s mdb
$N b ip link set vb nomaster
$N b ip link del br0
$N b ip link add bo type bond mode 802.3ad
for m in balance-rr active-backup balance-xor broadcast balance-tlb balance-alb
do $N b ip link add bo type bond mode $m miimon 100
$N b ip link set vb down
$N b ip link set vb master bo
$N b ip link set bo up
sleep .3
cat /proc/net/bonding/*
$N b ip link del bo
done
$N a ip link add ba type batadv
$N a ip link set va master ba
$N a ip link set ba up
$N a ip link set va nomaster
$N a ip link del ba
end_spaces
}

step_xfrm() {
spaces
K=0x000102030405060708090a0b0c0d0e0f
for e in 'enc cbc(aes) '$K' auth hmac(sha256) '$K$(echo $K | cut -c3-) 'aead rfc4106(gcm(aes)) '$K'10111213 128'
do for m in transport tunnel beet
do for s in a b
do for p in '10.0.0.1 10.0.0.2 1' '10.0.0.2 10.0.0.1 2'
do set -- $p
$N $s ip xfrm state add src $1 dst $2 proto esp spi 0x$3 reqid 1 mode $m $e
d=in
[ $s$3 = a1 -o $s$3 = b2 ] && d=out
$N $s ip xfrm policy add src $1 dst $2 dir $d tmpl src $1 dst $2 proto esp reqid 1 mode $m
done
done
talk
stream
$N a ip -s xfrm state
$N a ip -s xfrm policy
cat /proc/net/xfrm_stat
for s in a b
do $N $s ip xfrm state flush
$N $s ip xfrm policy flush
done
done
done
modprobe -a ah4 esp6 ipcomp
$N a ip link add xf type xfrm dev va if_id 5
$N a ip link del xf
$N a ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto comp spi 9 mode transport comp deflate
$N a ip xfrm state allocspi src 10.0.0.1 dst 10.0.0.2 proto esp mode tunnel min 10 max 20
$N a ip xfrm state count
timeout 1 $N a ip xfrm monitor
end_spaces
}

step_wireguard() {
spaces
modprobe wireguard
for s in a b
do $N $s ip link add wg0 type wireguard
wg genkey > /w/$s.key
wg pubkey < /w/$s.key > /w/$s.pub
done
$N a wg set wg0 listen-port 5 private-key /w/a.key peer $(cat /w/b.pub) allowed-ips 10.6.0.2/32 endpoint 10.0.0.2:5
$N b wg set wg0 listen-port 5 private-key /w/b.key peer $(cat /w/a.pub) allowed-ips 10.6.0.1/32 endpoint 10.0.0.1:5
$N a ip addr add 10.6.0.1/24 dev wg0
$N b ip addr add 10.6.0.2/24 dev wg0
$N a ip link set wg0 up
$N b ip link set wg0 up
talk 10.6.0.1
$N a wg
end_spaces
}

step_tc() {
spaces

for q in pfifo bfifo prio sfq fq fq_codel codel pie red 'tbf rate 10mbit burst 10k latency 50ms' 'netem delay 1ms loss 1% duplicate 1% reorder 5%' cake htb hfsc drr qfq ets multiq 'mqprio num_tc 2 map 0 1 queues 1@0 1@1' choke 'gred setup DPs 3 default 1' sfb hhf plug fq_pie cbs etf skbprio ingress clsact dsmark cbq atm teql0 'taprio num_tc 1'
do
m=sch_${q%% *}
modprobe $m 2>/dev/null
h='root handle 1:'
case $q in ingress|clsact) h=;; esac
$N a tc qdisc add dev va $h $q || continue
talk
$N a ping -q -f -c 50 10.0.0.2 >/dev/null
$N a tc -s qdisc show dev va >/dev/null
case $q in drr|qfq|htb|hfsc) $N a tc class add dev va parent 1: classid 1:1 $q
$N a tc -s class show dev va;; esac
$N a tc qdisc change dev va $h $q
case $q in ingress|clsact) $N a tc qdisc del dev va $q;; *) $N a tc qdisc del dev va root;; esac
done
$N a tc qdisc add dev va root handle 1: htb default 10
$N a tc class add dev va parent 1: classid 1:10 htb rate 100mbit
$N a tc class add dev va parent 1: classid 1:11 hfsc sc rate 1mbit
F="$N a tc filter add dev va parent 1: protocol ip"
n=1
for f in 'matchall' 'u32 match ip dst 10.0.0.2/32 flowid 1:10' 'flower dst_ip 10.0.0.2 ip_proto icmp' 'fw' 'basic match "cmp(u8 at 0 layer 0 gt 1) and meta(rxhash gt 0) and text(x from 0 to 40) and nbyte(ab at 0)"' 'flow map key dst rshift 0 divisor 4' 'route' 'cgroup' 'bpf bytecode "1,6 0 0 4294967295," flowid 1:10' 'rsvp ipproto 17 session 10.0.0.2' 'tcindex hash 16'
do
modprobe cls_${f%% *}
$F prio $n $f
n=$((n+1))
done
talk
$N a tc -s filter show dev va parent 1:
$N a tc filter del dev va parent 1:
$N a tc qdisc add dev va clsact
n=1
for x in 'mirred egress mirror dev lo' 'mirred ingress redirect dev lo' 'police rate 1mbit burst 10k' 'pedit ex munge ip ttl set 33' 'gact ok' 'skbedit priority 3 mark 4' 'vlan push id 5' 'csum ip' 'sample rate 5 group 1' 'tunnel_key set src_ip 1.1.1.1 dst_ip 2.2.2.2 id 3' 'simple sdata "x"' 'connmark' 'ct commit' 'ctinfo cpmark' 'ife encode allow mark' 'mpls push protocol mpls_uc label 3' 'skbmod swap mac' 'nat egress 10.0.0.1 10.0.0.9' 'gate clockid CLOCK_TAI sched-entry open 200000000 -1 -1' 'xt -j MARK --set-mark 3' 'bpf bytecode "1,6 0 0 4294967295,"'
do
modprobe act_${x%% *} 2>/dev/null
$N a tc filter add dev va egress prio $n protocol ip matchall action $x && talk
$N a tc -s actions ls action ${x%% *}
$N a tc filter del dev va egress prio $n
n=$((n+1))
done
$N a tc filter add dev va ingress prio 1 protocol ip flower action ct zone 1 pipe action goto chain 1
$N a tc filter add dev va ingress chain 1 protocol ip flower ct_state +trk action ok
talk
stream
end_spaces
}

step_nft() {
spaces
$N b sh -c 'nft -f - <<X
table inet t { set s { type ipv4_addr; flags interval,timeout; elements = { 10.0.0.0/24, 10.2.0.0/16 timeout 1h } }
 set dyn { type ipv4_addr; size 128; flags dynamic,timeout; } set c { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/24 . 1-100 } }
 map m { type inet_service : verdict; elements = { 22 : accept } } counter k { } quota q { over 100 mbytes } limit l { rate 100/second }
 flowtable f { hook ingress priority 0; devices = { vb } ; } ct helper h { type "ftp" protocol tcp; } ct timeout to { protocol tcp; policy = { established: 100 } ; } ct expectation e { protocol udp; dport 99; timeout 2m; size 12; l3proto ip; } synproxy y { mss 1460 wscale 7 timestamp sack-perm }
 chain i { type filter hook input priority 0; policy accept; ct state established,related counter name k accept; ip saddr @s limit name l log prefix "x" level debug counter; ip saddr . tcp dport @c counter; tcp dport vmap @m
  ct state invalid counter; meta mark set ct mark; fib saddr type local counter; socket transparent 0 counter; rt nexthop 1.1.1.1; numgen random mod 2 vmap { 0 : accept, 1 : continue }; jhash ip saddr mod 4 counter; osf name "Linux" counter; exthdr frag exists counter; tcp option maxseg size 100-2000 counter; ct count over 100 drop; quota name q; last; update @dyn { ip saddr timeout 1m }; ip protocol icmp icmp type echo-request ct helper set "h"; udp dport 100 queue num 1 bypass; }
 chain f { type filter hook forward priority 0; ip protocol tcp flow add @f; } chain o { type filter hook output priority 0; tcp flags syn tcp option maxseg size set rt mtu; meta nftrace set 1; notrack; dup to 10.0.0.1 device vb; } }
table ip n { chain p { type nat hook prerouting priority -100; tcp dport 81 redirect to :80; tcp dport 82 dnat to 10.0.0.2:83; } chain s { type nat hook postrouting priority 100; masquerade; } chain r { type route hook output priority 0; meta mark set 7; } chain t { type filter hook prerouting priority -150; tproxy to :99; } }
table ip6 n6 { chain s { type nat hook postrouting priority 100; snat to fd00::2; } } table bridge b { chain c { type filter hook input priority 0; meta ibrname "x" counter; } } table arp a { chain c { type filter hook input priority 0; arp operation request counter; } }
table netdev d { chain c { type filter hook ingress device vb priority 0; ip ttl set 20; fwd to lo; } }
X'
talk; stream; talk fd00::1; stream 10.0.0.1 -u; $N b nft list ruleset > /dev/null; $N b nft -j list ruleset >/dev/null; $N b conntrack -L; $N b conntrack -L expect; $N b conntrack -S; $N b nft reset counters; $N b nft monitor & sleep 0.2; kill $!
$N b nft add element inet t s { 10.3.0.0/16 }; $N b nft delete element inet t s { 10.3.0.0/16 }; $N b conntrack -F; $N b nft flush ruleset; $N b nft -f - <<X
table inet t { chain i { type filter hook input priority 0; synproxy mss 1460 wscale 7 timestamp sack-perm; reject with icmpx type port-unreachable; } }
X
talk; $N b nft flush ruleset
end_spaces
}

step_iptables() {
spaces
for t in iptables-nft iptables-legacy ip6tables-legacy
do I="$N b $t"
for r in '-m conntrack --ctstate NEW' '-m limit --limit 5/s' '-m hashlimit --hashlimit-above 1000/s --hashlimit-name a' '-m recent --name r --set' '-m string --algo kmp --string x' '-m string --algo bm --string x' '-m connlimit --connlimit-above 100' '-m length --length 1:1000' '-m mark --mark 1' '-m statistic --mode random --probability 0.5' '-m time --timestart 00:00' '-m u32 --u32 0=0' '-m bpf --bytecode 1,6 0 0 1' '-m addrtype --dst-type LOCAL' '-m physdev --physdev-in x' '-m policy --dir in --pol none' '-p tcp -m multiport --dports 1,2' '-p tcp -m tcpmss --mss 1:100' '-m quota --quota 10000' '-m connbytes --connbytes 1: --connbytes-dir both --connbytes-mode bytes' '-m helper --helper ftp' '-m owner --uid-owner 0' '-m comment --comment c' '-m cpu --cpu 0' '-m devgroup --src-group 1' '-m dscp --dscp 1' '-m ecn --ecn-tcp-ece -p tcp' '-m rateest --rateest x --rateest-lt --rateest-bps 1mbit' '-m cgroup --cgroup 1' '-m nfacct --nfacct-name n' '-m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 1' '-m connlabel --label 1' '-m rpfilter' '-p sctp' '-p dccp'
do $I -w -A INPUT $r
done
for j in 'LOG' 'NFLOG --nflog-group 1' 'NFQUEUE --queue-bypass' 'TRACE -t raw' 'MARK --set-mark 1 -t mangle' 'CONNMARK --save-mark -t mangle' 'CT --notrack -t raw' 'TCPMSS --clamp-mss-to-pmtu -p tcp --syn -t mangle' 'DSCP --set-dscp 1 -t mangle' 'TEE --gateway 10.0.0.9 -t mangle' 'IDLETIMER --timeout 5 --label idle' 'AUDIT --type accept' 'LED --led-trigger-id x' 'CHECKSUM --checksum-fill -p udp -t mangle' 'CLASSIFY --set-class 1:1 -t mangle' 'HMARK --hmark-tuple src --hmark-mod 2 --hmark-rnd 1 -t mangle' 'RATEEST --rateest-name x --rateest-interval 250ms --rateest-ewma 500ms' 'SECMARK --selctx x -t mangle' 'TTL --ttl-set 9 -t mangle'
do $I -w -I OUTPUT -j $j || $I -w -I INPUT -j $j
done
$I -t nat -A POSTROUTING -j MASQUERADE
$I -t nat -A PREROUTING -p tcp --dport 81 -j REDIRECT --to-ports 80
$I -t nat -A OUTPUT -d 10.0.0.50 -j DNAT --to-destination 10.0.0.1
talk
talk fd00::1
$N b ping -c 1 -W 1 10.0.0.50
stream
$I -L -v -n >/dev/null
$I-save >/dev/null
for tb in raw mangle nat filter
do $I -t $tb -F
done
done
$N b ebtables -A INPUT -p ip --log
$N b arptables -A INPUT -j ACCEPT
$N b ebtables -L
$N b ebtables -F
end_spaces
}

step_l2tp() {
spaces
modprobe -a l2tp_eth l2tp_ip l2tp_ip6 l2tp_debugfs
for e in udp ip
do for s in 'a 10.0.0.1 10.0.0.2 1 2' 'b 10.0.0.2 10.0.0.1 2 1'
do set -- $s
$N $1 ip l2tp add tunnel tunnel_id $4 peer_tunnel_id $5 encap $e local $2 remote $3 udp_sport 500$4 udp_dport 500$5
$N $1 ip l2tp add session name l0 tunnel_id $4 session_id $4 peer_session_id $5
$N $1 ip addr add 10.4.0.$4/24 dev l0
$N $1 ip link set l0 up
done
talk 10.4.0.1
$N a ip l2tp show session
cat /sys/kernel/debug/l2tp/tunnels
$N a ip l2tp del session tunnel_id 1 session_id 1
$N a ip l2tp del tunnel tunnel_id 1
$N b ip l2tp del tunnel tunnel_id 2
done
end_spaces
}

step_mptcp() {
spaces
$N a sysctl -w net.mptcp.enabled=1
$N a ip mptcp endpoint add 10.0.0.1 dev va signal
$N a ip mptcp limits set subflow 2 add_addr_accepted 2
$N b ip mptcp endpoint add 10.0.0.2 dev vb subflow
$N b ip addr add 10.0.0.22/24 dev vb
$N b ip mptcp endpoint add 10.0.0.22 dev vb subflow
$N b ip mptcp limits set subflow 2 add_addr_accepted 2
$N a python3 -c 'import socket as s; l=s.socket(s.AF_INET,s.SOCK_STREAM,262); l.bind(("10.0.0.1",70)); l.listen(); c,_=l.accept(); n=0
while (d:=c.recv(65536)): c.sendall(d[:10])' & sleep 1
timeout 10 $N b python3 -c 'import socket as s; c=s.socket(s.AF_INET,s.SOCK_STREAM,262); c.connect(("10.0.0.1",70)); [ (c.sendall(b"x"*30000), c.recv(10)) for i in range(40)]; c.close()'
$N a ss -M -i
$N a ip mptcp endpoint show
$N a ip mptcp endpoint flush
kill %1
end_spaces
}

step_ovs() {
spaces
modprobe openvswitch
ovs-dpctl add-dp dp
ovs-dpctl add-if dp lo
ovs-dpctl show
ip link add o1 type dummy
ip link set o1 up
ovs-dpctl add-if dp o1
ovs-dpctl add-flow dp 'in_port(1),eth(),eth_type(0x0800),ipv4()' 2
ovs-dpctl dump-flows dp
ovs-dpctl ct-get-limits
ovs-dpctl del-flows dp
ovs-dpctl del-dp dp
ip link del o1
end_spaces
}

step_tipc() {
spaces
modprobe tipc
for s in a b
do $N $s tipc node set addr 1.1.$(printf %d "'$s")
done
$N a tipc bearer enable media eth device va
$N b tipc bearer enable media eth device vb
sleep 1.5
$N a tipc link list
$N a tipc node list
$N a tipc nametable show
$N a tipc link statistics show
$N a tipc bearer enable media udp name u localip 10.0.0.1
$N b tipc bearer enable media udp name u localip 10.0.0.2
sleep 1
$N a tipc bearer list
$N a tipc media list
$N a tipc link monitor list
$N a tipc bearer disable media eth device va
$N a tipc bearer disable media udp name u
end_spaces
}

step_wifi() {
modprobe mac80211_hwsim radios=3
iw list > /dev/null
iw phy
iw reg get
iw reg set DE
iw dev wlan0 set type mp
iw dev wlan1 set type mp
ip link set wlan0 up
ip link set wlan1 up
iw dev wlan0 mesh join m freq 2412
iw dev wlan1 mesh join m freq 2412
sleep 3
ip addr add 10.66.0.1/24 dev wlan0
ip addr add 10.66.0.2/24 dev wlan1
ping -I wlan0 -c 2 -W 1 10.66.0.2
iw dev wlan0 station dump
iw dev wlan0 mpath dump
iw dev wlan0 survey dump
iw dev wlan0 get mesh_param
iw dev wlan0 mesh leave
ip link set wlan2 up
iw dev wlan2 scan > /dev/null
iw dev wlan0 set type ibss
ip link set wlan0 up
iw dev wlan0 ibss join x 2412
sleep 1
iw dev wlan0 ibss leave
iw dev wlan2 interface add mon0 type monitor
ip link set mon0 up
iw dev mon0 del
iw phy phy0 info >/dev/null
iw event & sleep .2
kill $!
ip link set wlan2 down
modprobe -r mac80211_hwsim
}

step_wpan() {
modprobe mac802154_hwsim; modprobe ieee802154_6lowpan; modprobe nfcsim; modprobe netdevsim; echo '1 2' > /sys/bus/netdevsim/new_device; devlink dev; devlink port show; devlink dev info; devlink health; devlink trap; devlink resource show netdevsim/netdevsim1; devlink region; devlink sb; devlink param; devlink dev reload netdevsim/netdevsim1; ethtool eth1; ethtool -a eth1; ethtool -g eth1; ethtool -c eth1; ethtool --show-fec eth1; ip link set lowpan0 up; echo 1 > /sys/bus/netdevsim/del_device; modprobe -a can-raw can-bcm can-gw can-isotp can-j1939; ip link add v0 type vcan; ip link set v0 up; python3 - <<X
import socket as s,struct
a=s.socket(s.AF_CAN,s.SOCK_RAW,s.CAN_RAW); a.bind(('v0',)); b=s.socket(s.AF_CAN,s.SOCK_RAW,s.CAN_RAW); b.bind(('v0',)); b.send(struct.pack('=IB3x8s',5,2,b'ab')); print(a.recv(16)); c=s.socket(s.AF_CAN,s.SOCK_DGRAM,s.CAN_BCM); c.connect(('v0',)); j=s.socket(s.AF_CAN,s.SOCK_DGRAM,s.CAN_J1939); j.bind(('v0',s.J1939_NO_NAME,s.J1939_NO_PGN,0x20)); i=s.socket(s.AF_CAN,s.SOCK_DGRAM,s.CAN_ISOTP); i.bind(('v0',0x123,0x321))
X
ip link del v0
}

step_ipset() {
spaces
for s in 'hash:ip' 'hash:net' 'hash:ip,port' 'hash:net,iface' 'hash:mac' 'bitmap:ip range 10.0.0.0/24' 'bitmap:port range 1-100' 'list:set' 'hash:net,net' 'hash:ip,port,net' 'hash:net,port,net' 'hash:ip,mark' 'hash:ipmac' 'bitmap:ip,mac range 10.0.0.0/24'
do $N b ipset create s $s timeout 100 counters comment skbinfo
$N b ipset add s 10.0.0.1
$N b ipset add s 10.0.0.0/24
$N b ipset add s 10.0.0.1,80
$N b ipset add s 10.0.0.0/24,10.0.0.0/24
$N b iptables-legacy -w -A INPUT -m set --match-set s src
talk
$N b ipset list s
$N b ipset test s 10.0.0.1
$N b iptables-legacy -w -F
$N b ipset flush s
$N b ipset destroy s
done
end_spaces
}

step_ipvs() {
spaces
$N b ipvsadm -A -t 10.0.0.2:90 -s rr
for s in rr wrr lc wlc lblc lblcr sh dh sed nq fo ovf mh
do $N b ipvsadm -E -t 10.0.0.2:90 -s $s
for m in -g -i -m
do $N b ipvsadm -a -t 10.0.0.2:90 -r 10.0.0.1:90 $m
$N a timeout 1 bash -c 'echo > /dev/tcp/10.0.0.2/90'
$N b ipvsadm -d -t 10.0.0.2:90 -r 10.0.0.1:90
done
done
$N b ipvsadm -L -n --stats
$N b ipvsadm --start-daemon master --mcast-interface vb
$N b ipvsadm -C
end_spaces
}
