package posix

import "testing"

// TestNetworkFileSystems knows those that operators meet; the local ones are not among them.
func TestNetworkFileSystems(t *testing.T) {
	for magic, want := range map[uint32]string{
		0x6969: "NFS", 0xff534d42: "CIFS", 0x65735546: "FUSE", // from statfs(2)
		0xef53: "", 0x58465342: "", 0x9123683e: "", 0x01021994: "", 0x794c7630: "", // ext4, XFS, Btrfs, tmpfs, overlay
	} {
		if got := networks[magic]; got != want {
			t.Errorf("%#x is %q; want %q", magic, got, want)
		}
	}
}
