"""The facility's night: one command for cron that registers, plans, restores, reports and tells."""
