"""What items go through between a run and the deliveries: processors, and the buffer of tail sampling."""
