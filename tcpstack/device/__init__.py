"""Where packets come from and go to: TUN devices, joined pairs in memory, and faults put in between."""
