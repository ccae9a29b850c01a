"""Best of N as a call and as a server: sample, score, and return the response with the largest reward."""
