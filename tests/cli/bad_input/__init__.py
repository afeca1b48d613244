"""Bad input to the `nemotron` command: a row for each kind, by subject, and the test of all."""
