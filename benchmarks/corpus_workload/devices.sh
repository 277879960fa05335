# Device mapper, RAID and block devices on files.

step_dm() {
modprobe dm_mod
for n in 1 2 3 4
do truncate -s 32M /w/d$n
losetup -f /w/d$n
done
losetup -a
set -- $(losetup -a | grep /w/d | cut -d: -f1)
S=65536
try() { n=$1
shift
echo "$@" | dmsetup create $n && { dd if=/dev/zero of=/dev/mapper/$n bs=64k count=64 oflag=direct
dd if=/dev/mapper/$n of=/dev/null bs=64k count=64 iflag=direct
dmsetup status $n
dmsetup table $n
dmsetup suspend $n
dmsetup resume $n
dmsetup message $n 0 status
dmsetup remove --retry $n
}
}
try lin 0 $S linear $1 0
try str 0 $((2*S)) striped 2 128 $1 0 $2 0
try mir 0 $S mirror core 1 1024 2 $1 0 $2 0
try del 0 $S delay $1 0 1
try fla 0 $S flakey $1 0 5 1
try err 0 $S error
try zer 0 $S zero
try dust 0 $S dust $1 0 512
try cry 0 $S crypt aes-xts-plain64 $(head -c 64 /dev/zero | od -An -tx1 | tr -d ' \n') 0 $1 0
try rai 0 $S raid raid1 3 0 region_size 1024 2 - $1 - $2
try r5 0 $((2*S)) raid raid5_la 1 64 3 - $1 - $2 - $3
try uns 0 $S unstriped 1 128 0 $1 0
try wri 0 $S writecache s $1 $2 4096 0
try log 0 $S log-writes $1 $2
try ebs 0 $S ebs $1 0 8
try cln 0 $S clone $2 $1 $3 8
try int 0 60000 integrity $4 0 32 D 0
echo 0 $S snapshot-origin $1 | dmsetup create org
echo 0 $S snapshot $1 $2 P 16 | dmsetup create snp
dd if=/dev/urandom of=/dev/mapper/org bs=64k count=32 oflag=direct
dd if=/dev/urandom of=/dev/mapper/snp bs=64k count=32 oflag=direct
dmsetup status
dmsetup remove snp
dmsetup remove org
dd if=/dev/zero of=$2 bs=4k count=1
echo 0 $S thin-pool $2 $1 128 0 | dmsetup create pool && { dmsetup message pool 0 'create_thin 0'
echo 0 $S thin /dev/mapper/pool 0 | dmsetup create thin
dd if=/dev/urandom of=/dev/mapper/thin bs=64k count=64 oflag=direct
dmsetup suspend thin
dmsetup message pool 0 'create_snap 1 0'
dmsetup resume thin
dd if=/dev/zero of=/dev/mapper/thin bs=64k count=64 oflag=direct
dmsetup message pool 0 'delete 1'
dmsetup status pool
dmsetup remove thin
dmsetup remove pool
}
dd if=/dev/zero of=$2 bs=4k count=1
try cac 0 $S cache $2 $1 $3 256 1 writeback smq 0
cryptsetup -q luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $1 - < /etc/passwd
cryptsetup open $1 lk --key-file /etc/passwd --keyfile-size 64
cryptsetup status lk
cryptsetup close lk
veritysetup format $1 $2 > /w/v
veritysetup open $1 ver $2 $(awk '/Root/ {print $3}' /w/v) && dd if=/dev/mapper/ver of=/dev/null bs=64k count=64
veritysetup close ver
losetup -D
}

step_md() {
for n in 1 2 3 4 5
do truncate -s 32M /w/d$n
losetup -f /w/d$n
done
set -- $(losetup -a | grep /w/d | cut -d: -f1)
for l in 0 1 4 5 6 10 linear
do modprobe raid$l 2>/dev/null
B=
case $l in 1|5|6|10) B=--bitmap=internal;; esac
mdadm --create /dev/md7 --run --force -l $l -n 4 $B $1 $2 $3 $4 </dev/null && {
dd if=/dev/urandom of=/dev/md7 bs=64k count=100 oflag=direct
dd if=/dev/md7 of=/dev/null bs=64k count=100 iflag=direct
case $l in 1|5|6|10) mdadm /dev/md7 --fail $1
mdadm /dev/md7 --remove $1
dd if=/dev/zero of=/dev/md7 bs=64k count=50 oflag=direct
mdadm /dev/md7 --add $5
echo check > /sys/block/md7/md/sync_action
sleep 1
esac
cat /proc/mdstat
mdadm --detail /dev/md7 | head -5
mdadm --stop /dev/md7
mdadm --zero-superblock $1 $2 $3 $4 $5
}
done
losetup -D
}

step_lvm() {
vgs
pvcreate --help >/dev/null
modprobe zram
echo 16M > /sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0 && swapoff -a
}

step_block() {
modprobe null_blk nr_devices=1
for s in none mq-deadline bfq kyber
do modprobe $s-iosched 2>/dev/null
modprobe $s 2>/dev/null
echo $s > /sys/block/nullb0/queue/scheduler
fio --name=a --filename=/dev/nullb0 --rw=randrw --bs=4k --runtime=1 --time_based --ioengine=libaio --iodepth=8 --direct=1 >/dev/null
done
fio --name=u --filename=/dev/nullb0 --rw=randread --runtime=1 --time_based --ioengine=io_uring --iodepth=8 >/dev/null
echo 'b *:* rwm' >/dev/null
for f in /sys/block/nullb0/queue/*
do cat $f
done
blkdiscard /dev/nullb0
blkzone report /dev/nullb0
lsblk
partx -a /dev/nullb0
parted --version
printf 'label: gpt\n,10M\n,\n' | sfdisk /dev/nullb0
printf 'label: dos\n,10M\n,\n' | sfdisk --force /dev/nullb0
sfdisk -d /dev/nullb0
blockdev --report
modprobe nbd
modprobe scsi_debug dev_size_mb=8
sleep 1
dd if=/dev/sda of=/dev/null bs=64k count=16
modprobe -r scsi_debug
modprobe -r null_blk
}
