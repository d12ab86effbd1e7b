"""What a job is, where it lives on disk, and the result rows that it leaves."""
