# Many file systems, each made, filled, changed, looked at and taken away.

# files DIRECTORY: what is done on every one of them
files() {
  cd $1
  mkdir -p d/e
  i=0
  while [ $i -lt 20 ]
  do echo "line $i" > d/f$i
  i=$((i+1))
  done
  dd if=/dev/urandom of=big bs=64k count=24 2>/dev/null
  cp big d/e/copy
  sync -f big 2>/dev/null
  dd if=big of=/dev/null bs=4k iflag=direct 2>/dev/null
  dd if=/dev/zero of=direct bs=4k count=16 oflag=direct
  mv d/f1 d/e/f1
  ln d/f2 d/hard
  ln -s f2 d/soft
  cat d/soft
  rm d/f3
  touch -d 2001-01-01 d/f4
  setfattr -n user.a -v value d/f5
  getfattr -d d/f5
  setfacl -m u:1:r d/f5
  getfacl d/f5
  setfattr -n trusted.b -v $(head -c 3000 /dev/zero | tr '\0' x) d/f6
  setfattr -x user.a d/f5
  fallocate -l 300k d/fall
  fallocate -p -o 4096 -l 8192 d/fall
  fallocate -z -o 16384 -l 8192 d/fall
  fallocate -c -o 0 -l 4096 d/fall
  fallocate -i -o 0 -l 4096 d/fall
  truncate -s 5000 big
  truncate -s 3M big
  cp --reflink=always big big2
  cp --reflink=auto big big3
  chmod 600 d/f7
  chown 1:1 d/f7
  ls -lR . > /dev/null
  find . -newer d/f4 > /dev/null
  stat -f . > /dev/null
  lsattr d
  chattr +i d/f8
  rm -f d/f8
  chattr -i d/f8
  filefrag -v big d/fall
  df .
  flock d/f9 true
  fsfreeze -f . && fsfreeze -u .
  fstrim .
  rm -r d/e
  sync
  echo 3 > /proc/sys/vm/drop_caches
  cat d/f*
  cd /w
}

# on_loop KIND SIZE OPTIONS COMMAND...: a file system in a file; $more runs on it while it is mounted
on_loop() {
  kind=$1 size=$2 options=$3
  shift 3
  modprobe $kind
  truncate -s $size /w/$kind.img
  "$@" /w/$kind.img && mount -t $kind -o loop$options /w/$kind.img /w/m || return 1
  files /w/m
  ${more:-true}
  mount -o remount,ro /w/m
  mount -o remount,rw /w/m
  umount /w/m
  mount -t $kind -o loop$options /w/$kind.img /w/m && ls -lR /w/m > /dev/null
  rm -rf /w/m/*
  umount /w/m
  rm -f /w/$kind.img
}

# read_only KIND COMMAND...: an image of /w/src that only reading is done on
read_only() {
  kind=$1
  shift
  modprobe $kind
  mkdir -p /w/src/a
  cp /bin/ls /etc/passwd /w/src/a
  ln -sf passwd /w/src/a/l
  "$@" && mount -t $kind -o loop,ro /w/$kind.img /w/m || return 1
  find /w/m -type f | xargs cat > /dev/null
  ls -lR /w/m
  getfattr -dR /w/m
  umount /w/m
  rm -f /w/$kind.img
}

more_btrfs() {
  btrfs subvolume create /w/m/s
  cp /bin/ls /w/m/s
  btrfs subvolume snapshot /w/m/s /w/m/t
  btrfs subvolume snapshot -r /w/m/s /w/m/r
  btrfs send /w/m/r | btrfs receive -f - /w/m/d
  btrfs quota enable /w/m
  btrfs qgroup show /w/m
  btrfs scrub start -B /w/m
  btrfs balance start --full-balance /w/m
  btrfs filesystem defragment -c /w/m/big
  btrfs filesystem usage /w/m
  btrfs device stats /w/m
  sync
  truncate -s 128M /w/b2.img
  L=$(losetup -f --show /w/b2.img)
  btrfs replace start -f -B 1 $L /w/m
  btrfs subvolume delete /w/m/t
  btrfs filesystem resize -8M /w/m
  btrfs quota disable /w/m
  sync
}

more_xfs() {
  xfs_io -fc 'pwrite 0 1m' -c fsync -c 'reflink /w/m/big' -c 'fiemap' -c 'bmap' /w/m/x 2>/dev/null
  xfs_quota -xc 'report' /w/m
  xfs_growfs /w/m
  xfs_fsr /w/m
  xfs_scrub -n /w/m
  xfs_bmap -v /w/m/big
}

more_ext4() {
  e4defrag /w/m/big
  chattr +c /w/m/d/f10
  chattr +j /w/m/d/f11
  resize2fs $(losetup -j /w/ext4.img | cut -d: -f1) 40M
  quotacheck -ug /w/m
  quotaon /w/m
  repquota /w/m
  quotaoff /w/m
  mkdir /w/m/many
  for i in $(seq 400)
  do : > /w/m/many/a_rather_long_name_of_a_file_number_$i
  done
  ls /w/m/many | wc -l
}

step_ext4() { more=more_ext4 on_loop ext4 64M "" mkfs.ext4 -q -F -b 4096 -O inline_data,verity; }
step_ext3() { on_loop ext4 64M ,data=journal mkfs.ext3 -q -F; }
step_ext2() { on_loop ext4 64M "" mkfs.ext2 -q -F; }
step_xfs() { more=more_xfs on_loop xfs 320M ,usrquota mkfs.xfs -q -f; }
step_btrfs() { more=more_btrfs on_loop btrfs 160M ,compress=zstd mkfs.btrfs -q -f; }
step_f2fs() { on_loop f2fs 128M "" mkfs.f2fs -q -f -O extra_attr,inode_checksum,compression; }
step_nilfs2() { on_loop nilfs2 160M "" mkfs.nilfs2 -q -f; }
step_udf() { on_loop udf 64M "" mkfs.udf; }
step_jfs() { on_loop jfs 64M "" mkfs.jfs -q; }
step_reiserfs() { on_loop reiserfs 96M "" mkfs.reiserfs -q -f -f; }
step_exfat() { on_loop exfat 64M "" mkfs.exfat; }
step_vfat() { on_loop vfat 64M "" mkfs.vfat; }
step_minix() { on_loop minix 60M "" mkfs.minix -3; }
step_ntfs3() { on_loop ntfs3 64M "" mkfs.ntfs -F -Q; }
make_ocfs2() { L=$(losetup -f --show $1) && yes | mkfs.ocfs2 -q -M local -N 1 $L; s=$?; losetup -d $L; return $s; }
step_ocfs2() { on_loop ocfs2 256M "" make_ocfs2; }
step_gfs2() { on_loop gfs2 96M "" mkfs.gfs2 -q -O -p lock_nolock -j 1 -J 8; }
step_squashfs() { read_only squashfs mksquashfs /w/src /w/squashfs.img -quiet; }
step_isofs() { modprobe isofs && mkdir -p /w/src && read_only iso9660 genisoimage -quiet -R -J -o /w/iso9660.img /w/src; }
step_erofs() { read_only erofs mkfs.erofs -zlz4 /w/erofs.img /w/src; }

step_overlay() {
  modprobe overlay
  mkdir -p /w/o
  mount -t tmpfs t /w/o
  mkdir -p /w/o/l /w/o/u /w/o/k
  echo low > /w/o/l/low
  mount -t overlay o -o lowerdir=/w/o/l,upperdir=/w/o/u,workdir=/w/o/k /w/m && {
  files /w/m
  echo more >> /w/m/low
  rm /w/m/low
  mkdir /w/m/low
  umount /w/m
  }
  umount /w/o
}

step_tmpfs() {
  mount -t tmpfs -o size=64M,huge=always t /w/m
  files /w/m
  umount /w/m
}

step_jffs2() {
  modprobe mtdram total_size=16384 erase_size=64
  modprobe mtdblock
  modprobe jffs2
  mount -t jffs2 mtd0 /w/m && { files /w/m
  umount /w/m
  }
}

step_ecryptfs() {
  modprobe ecryptfs
  mkdir -p /w/low
  mount -t ecryptfs /w/low /w/m -o key=passphrase:passphrase_passwd=x,ecryptfs_cipher=aes,ecryptfs_key_bytes=16,ecryptfs_passthrough=n,ecryptfs_enable_filename_crypto=n,no_sig_cache </dev/null &&
  { files /w/m
  umount /w/m
  }
}

step_nfs() {
  modprobe nfsd
  modprobe nfs
  mkdir -p /w/exp /var/lib/nfs/rpc_pipefs /proc/fs/nfsd /var/lib/nfs/v4recovery
  mount -t tmpfs t /w/exp
  mount -t nfsd nfsd /proc/fs/nfsd
  rpcbind
  echo '/w/exp *(rw,no_root_squash,insecure,fsid=1)' > /etc/exports
  exportfs -ra
  rpc.mountd
  rpc.nfsd -V 3 -V 4 2
  for v in 4.2 4.1 4.0 3
  do
  timeout 20 mount -t nfs -o vers=$v,nolock,soft,timeo=20 127.0.0.1:/w/exp /w/m && { files /w/m
  umount /w/m
  }
  done
  rpc.nfsd 0
  exportfs -ua
  sleep 1
  umount /w/exp /proc/fs/nfsd
  pkill rpc.mountd
  pkill rpcbind
}

step_smb() {
  modprobe ksmbd
  modprobe cifs
  mkdir -p /w/smb /etc/ksmbd
  chmod 777 /w/smb
  printf '[global]\nserver multi channel support = yes\n[s]\npath=/w/smb\nread only=no\nguest ok=yes\n' > /etc/ksmbd/ksmbd.conf
  printf '' > /etc/ksmbd/ksmbdpwd.db
  ksmbd.adduser -a -p pw root
  ksmbd.mountd
  sleep 2
  for v in 3.1.1 3.0 2.1
  do timeout 25 mount -t cifs -o vers=$v,user=root,password=pw //127.0.0.1/s /w/m && { files /w/m
  umount /w/m
  }
  done
  ksmbd.control -s
  sleep 1
  pkill ksmbd.mountd
}

step_autofs() {
  modprobe autofs4
  mkdir -p /w/a
  mount -t autofs -o fd=0,pgrp=1,minproto=5,maxproto=5,direct auto /w/a </dev/zero
  umount /w/a
}

step_pseudo() {
  mount -t hugetlbfs h /w/m && umount /w/m
  modprobe configfs
  mount -t configfs c /sys/kernel/config
  mount -t ramfs r /w/m && umount /w/m
  mount -t mqueue q /w/m && umount /w/m
  mount -t binfmt_misc b /proc/sys/fs/binfmt_misc
  mount -t efivarfs e /w/m
  modprobe pstore
  mount -t pstore p /w/m && umount /w/m
  ls /sys/kernel/config
}
