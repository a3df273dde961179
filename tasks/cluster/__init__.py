"""Work on a cluster: turns, shards, devices."""
