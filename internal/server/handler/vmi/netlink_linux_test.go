package vmi

import (
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

func netlinkIn(ns *os.File) (*netlink.Handle, error) {
	return netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
}
