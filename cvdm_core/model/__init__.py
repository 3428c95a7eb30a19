"""The conditional variational diffusion model: schedule, networks, diffusion, noise, sampler. Needs torch and numpy only."""
