package main

import "lockstep/common/node"

func main() { node.Main(serve) }
