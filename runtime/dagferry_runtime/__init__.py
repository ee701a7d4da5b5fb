"""What all commands share: settings from flags and environment, logs, exit codes."""
