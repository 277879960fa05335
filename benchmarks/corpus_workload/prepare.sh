# Before every step.
mkdir -p /w/m
cd /w
modprobe loop max_loop=16
modprobe brd rd_nr=4 rd_size=65536 2>/dev/null
ip link set lo up
ip addr add 192.0.2.1/32 dev lo 2>/dev/null
ip -6 addr add 2001:db8::1/128 dev lo
ulimit -n 4096
