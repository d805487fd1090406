module lockstep

go 1.25
