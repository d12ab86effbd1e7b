"""What every room stands on: errors, files, seeds, the device, canonical JSON."""
