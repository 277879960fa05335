# System calls, sockets, keys, security modules, cgroups, BPF, tracing, memory.

step_sockets() {
modprobe -a sctp dccp_ipv4 vsock_loopback tipc rds rds_tcp smc smc_diag tls af_alg algif_hash algif_skcipher algif_aead algif_rng qrtr qrtr_tun kcm xsk_diag tcp_diag udp_diag inet_diag unix_diag sctp_diag netlink_diag af_key rxrpc phonet 2>/dev/null
for a in bbr dctcp vegas westwood htcp hybla illinois veno yeah bic cdg nv lp scalable highspeed
do modprobe tcp_$a
done
python3 $HERE/sockets.py
ss -a -e -i -A all
ss -A sctp -a
cat /proc/net/sctp/*
cat /proc/net/tls_stat
}

step_keys() {
keyctl newring r @s
keyctl add user a b @s
K=$(keyctl search @s user a)
keyctl print $K
keyctl update $K c
keyctl setperm $K 0x3f3f0000
keyctl describe $K
keyctl timeout $K 100
keyctl revoke $K
keyctl add logon l:x y @s
keyctl padd big_key bk @s < /bin/true
keyctl add encrypted e 'new user:kmk 32' @s
keyctl add user kmk $(head -c 32 /dev/zero | tr '\0' a) @u
keyctl add encrypted e 'new default user:kmk 32' @u
keyctl pipe $(keyctl search @u encrypted e)
keyctl add asymmetric '' x @s
keyctl show
keyctl list @s
keyctl clear @s
keyctl session s sh -c 'keyctl show'
keyctl request2 user x y
keyctl get_persistent @s
keyctl reap
keyctl dh_compute 1 2 3
keyctl supports
cat /proc/keys /proc/key-users
}

step_lsm() {
cat /sys/kernel/security/lsm
aa-status
for f in $(find /sys/kernel/security -type f | head -80)
do head -c 2000 $f
done
printf 'profile x /bin/x { /** r, network, capability, }' | apparmor_parser -r
aa-exec -p x -- ls /
printf 'profile x /bin/x { }' | apparmor_parser -R
python3 -c "import ctypes; l=ctypes.CDLL(None,use_errno=True); print(l.syscall(444,0,0,1)); a=(ctypes.c_uint64*1)(8191); f=l.syscall(444,a,8,0); l.prctl(38,1,0,0,0); print(f, l.syscall(446,f,0)); open('/etc/passwd').read()"
}

step_cgroups() {
cd /sys/fs/cgroup
echo '+cpu +memory +io +pids +cpuset +hugetlb +misc +rdma' > cgroup.subtree_control
mkdir -p x/y
echo '+cpu +memory +pids' > x/cgroup.subtree_control
echo 20M > x/memory.max
echo '50000 100000' > x/cpu.max
echo 20 > x/pids.max
sh -c 'echo $$ > /sys/fs/cgroup/x/y/cgroup.procs; head -c 30000000 /dev/zero | tail > /dev/null'
cat x/* x/y/* > /dev/null
echo 1 > x/cgroup.freeze
echo 0 > x/cgroup.freeze
echo 1 > x/cgroup.kill
rmdir x/y
rmdir x
mkdir -p /w/c1
mount -t cgroup -o net_cls,net_prio n /w/c1
cat /w/c1/*
umount /w/c1
mount -t cgroup -o none,name=z z /w/c1 && umount /w/c1
}

step_namespaces() {
unshare -mpfniuCT --mount-proc --map-root-user sh -c 'ps; ip a; hostname x; mount -t tmpfs t /mnt; mount --bind /mnt /media; umount /media; mount --make-rshared /mnt; date'
unshare -U true
unshare -r --setgroups deny id
unshare --time --boottime 1000 cat /proc/uptime
nsenter -t 1 -a true
lsns
pivot_root . . 
ipcmk -M 1000
ipcmk -S 2
ipcmk -Q
ipcs -a
ipcrm -a
for i in 1 2 3
do unshare -n true
done
mount --move /w/m /w/m
mount -o bind /etc /w/m
mount -o remount,bind,ro /w/m
findmnt >/dev/null
umount /w/m
cat /proc/self/mountinfo
chroot / true
}

step_bpf() {
bpftool prog
bpftool map
bpftool map create /sys/fs/bpf/h type hash key 4 value 4 entries 9 name h
bpftool map update pinned /sys/fs/bpf/h key 1 0 0 0 value 1 0 0 0
bpftool map dump pinned /sys/fs/bpf/h
for t in array percpu_hash percpu_array lru_hash lpm_trie queue stack stack_trace hash_of_maps devmap cpumap sockmap sockhash xskmap ringbuf bloom_filter sk_storage cgroup_array prog_array perf_event_array reuseport_sockarray struct_ops inode_storage
do bpftool map create /sys/fs/bpf/m type $t key 4 value 4 entries 4096 name m || bpftool map create /sys/fs/bpf/m type $t key 0 value 4 entries 4096 name m || bpftool map create /sys/fs/bpf/m type $t key 8 value 8 entries 16 name m flags 1
bpftool map update pinned /sys/fs/bpf/m key 0 0 0 0 value 1 0 0 0
bpftool map lookup pinned /sys/fs/bpf/m key 0 0 0 0
bpftool map dump pinned /sys/fs/bpf/m
bpftool map getnext pinned /sys/fs/bpf/m
bpftool map delete pinned /sys/fs/bpf/m key 0 0 0 0
bpftool map freeze pinned /sys/fs/bpf/m
rm -f /sys/fs/bpf/m
done
bpftool feature probe > /dev/null
bpftool btf list
bpftool btf dump file /sys/kernel/btf/vmlinux format raw | head -3
bpftool net
bpftool cgroup tree
bpftool link
bpftool iter
bpftool perf
rm -f /sys/fs/bpf/h
}

step_trace() {
cd /sys/kernel/tracing
echo 'p:mine/p vfs_read size=%dx' >> dynamic_events
echo 'r:mine/r vfs_read $retval' >> dynamic_events
echo 1 > events/mine/enable
cat /etc/passwd
echo 0 > events/mine/enable
echo -:mine/p >> dynamic_events
echo -:mine/r >> dynamic_events
echo 'synth u64 a; pid_t b' >> dynamic_events
echo '!synth' >> dynamic_events
echo 'hist:keys=common_pid:vals=hitcount' > events/sched/sched_switch/trigger
sleep .3
cat events/sched/sched_switch/hist
echo '!hist:keys=common_pid:vals=hitcount' > events/sched/sched_switch/trigger
echo 'prev_pid > 1 && next_comm ~ "a*"' > events/sched/sched_switch/filter
echo 0 > events/sched/sched_switch/filter
mkdir instances/i
echo function > instances/i/current_tracer
head -50 instances/i/trace >/dev/null
echo nop > instances/i/current_tracer
rmdir instances/i
for t in function_graph wakeup irqsoff blk mmiotrace hwlat osnoise timerlat
do echo $t > current_tracer
sleep .2
head -20 trace
echo nop > current_tracer
done
echo 1 > events/enable
sleep .3
echo 0 > events/enable
head -100 trace > /dev/null
echo > trace
echo 100 > buffer_size_kb
cat saved_cmdlines printk_formats available_filter_functions set_event stack_trace uprobe_events | head -20
timeout 1 cat trace_pipe
echo foo > trace_marker
}

step_stress() {
cd /w
for s in access af-alg aio aiol bind-mount binderfs branch chattr chdir chmod chown clock clone close copy-file cpu dentry dev-shm dir dirdeep dirmany dnotify dup epoll eventfd exec exit-group fallocate fanotify fault fcntl fiemap fifo file-ioctl flock fork fpunch fsize fstat full futex get getdent getrandom handle hdd icmp-flood inode-flags inotify io io-uring iomix ioprio itimer kcmp key kill klog l1cache landlock lease link locka lockf lockofd loop madvise malloc mbind membarrier memfd memhotplug memrate mincore misaligned mknod mlock mlockmany mmap mmapaddr mmapfixed mmapfork mmaphuge mmapmany mprotect mq mremap msg msync munmap nanosleep netdev netlink-proc netlink-task null numa oom-pipe open pageswap pci personality physpage pidfd pipe pipeherd pkey poll prctl prefetch procfs pthread ptrace pty quota ramfs rawdev rawpkt rawsock rawudp readahead reboot remap rename resched resources revio ring-pipe rlimit rmap rseq rtc schedpolicy sctp seal seccomp secretmem seek sem sem-sysv sendfile session set shm shm-sysv sigabrt sigchld sigfd sigio sigpending sigq sigrt sigsuspend sigtrap skiplist sleep sock sockabuse sockdiag sockfd sockmany sockpair softlockup spawn splice stack switch symlink sync-file syncload sysbadaddr sysinfo sysfs tee timer timerfd tlb-shootdown tmpfs touch udp udp-flood unshare uprobe urandom userfaultfd usersyscall utime vdso verity vfork vforkmany vm vm-addr vm-rw vm-segv vm-splice wait watchdog x86syscall xattr yield zero zlib
do
case $s in reboot|softlockup|memhotplug|resources|watchdog|oom-pipe|sysbadaddr|bind-mount) continue;; esac
timeout 8 stress-ng --$s 1 --$s-ops 40 -t 1 --quiet --oomable --no-rand-seed >/dev/null 2>&1
done
}

step_machine() {
for f in $(find /proc -maxdepth 2 -type f -not -name 'kmsg' -not -name kcore -not -name kpagecount -not -name kpageflags -not -name kpagecgroup | grep -v '/proc/[0-9]' | head -300)
do timeout 2 head -c 4000 $f > /dev/null
done
for f in /proc/self/* /proc/1/*
do timeout 2 head -c 4000 $f >/dev/null
done
find /sys/kernel /sys/module /sys/block /sys/class/net/lo -type f | head -2500 | while read f
do case $f in *trace_pipe|*/tracing/*|*livepatch*) continue;; esac
timeout 1 head -c 1000 $f
done >/dev/null 2>&1
echo 1 > /proc/sys/vm/compact_memory
echo always > /sys/kernel/mm/transparent_hugepage/enabled
echo 20 > /proc/sys/vm/nr_hugepages
stress-ng --mmaphuge 1 -t 1 --quiet
echo 0 > /proc/sys/vm/nr_hugepages
echo 1 > /sys/kernel/mm/ksm/run
stress-ng --ksm 1 -t 2 --quiet
echo 2 > /sys/kernel/mm/ksm/run
echo 0 > /sys/kernel/mm/ksm/run
truncate -s 64M /w/sw
chmod 600 /w/sw
dd if=/dev/zero of=/w/sw bs=1M count=64
mkswap /w/sw
swapon /w/sw
stress-ng --vm 1 --vm-bytes 90% -t 3 --quiet --oomable
swapoff /w/sw
taskset 1 true
chrt -f 5 true
chrt -d --sched-runtime 1000000 --sched-deadline 5000000 --sched-period 5000000 0 true
nice -n 5 true
ionice -c 3 true
sysctl -a >/dev/null 2>&1
date -s @$(date +%s)
adjtimex -p
hwclock -r
echo mem > /sys/power/state
echo 0 > /sys/devices/system/cpu/cpu1/online
echo 1 > /sys/devices/system/cpu/cpu1/online
modprobe -a kvm_amd vhost_net vhost_vsock tun
python3 -c "import fcntl,os; k=os.open('/dev/kvm',2); v=fcntl.ioctl(k,0xAE01,0); c=fcntl.ioctl(v,0xAE41,0); print(k,v,c); fcntl.ioctl(v,0xAE60); "
dmesg -n 1
stress-ng --perf --cpu 1 -t 1 --quiet
ip tuntap add dev tp mode tap
ip link set tp up
ip tuntap del dev tp mode tap
}
