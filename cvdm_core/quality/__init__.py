"""What a restored image is worth: with truth, without truth, and how well its own error bar is calibrated."""
