package posix

import (
	"os"
	"syscall"
)

// networks are the magic numbers of statfs(2) of file systems that are not local disks.
var networks = map[uint32]string{
	0x6969: "NFS", 0x517b: "SMB", 0xff534d42: "CIFS", 0xfe534d42: "SMB2", 0x65735546: "FUSE",
	0x01021997: "9P", 0x00c36400: "Ceph", 0x5346414f: "AFS", 0x6b414653: "AFS", 0x73757245: "Coda",
	0x0bd00bd0: "Lustre", 0x47504653: "GPFS", 0x7461636f: "OCFS2", 0x01161970: "GFS2",
	0xaad7aaea: "Panasas", 0x19830326: "BeeGFS",
}

// fileSystem names the file system of f if it is in networks.
func fileSystem(f *os.File) (string, error) {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &s); err != nil {
		return "", err
	}
	return networks[uint32(s.Type)], nil
}
