"""Emptying a host before it leaves, and filling it again: the virtual machines of a libvirt host."""
