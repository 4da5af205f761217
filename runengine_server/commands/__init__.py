"""What `runengine-server` does besides serving: it explains a configuration and examines what it leads to."""
