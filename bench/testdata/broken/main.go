// Broken is a stage that does not compile.
package main

func main() { serveEverybody() }
