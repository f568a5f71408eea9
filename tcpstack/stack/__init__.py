"""One host: which connection a segment belongs to, who listens, when timers are due, and what ICMP says."""
