"""What `Client.take` says about the bytes it was given."""

GO_ON = 0  # all that came is dealt with
ATTACH = 1  # needs a server before the rest can go on
GOODBYE = 2  # the client said Terminate
CLOSE_IT = 3  # the client broke the protocol or a limit: `fault` says how
