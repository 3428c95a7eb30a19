"""What has to be asked of SLURM while a workflow runs, and what is left in its queue. Only Python's own library is needed here."""
