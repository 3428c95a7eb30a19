"""`cvdm doctor`: does the cluster grant what the profile and the workflow will ask of it; asked before the first job is sent."""
