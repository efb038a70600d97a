"""Apache's configuration files, read into the same settings as TOML is."""
