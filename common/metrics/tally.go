package metrics

// A Tally counts things of several kinds. A nil Tally has counted none.
type Tally map[string]int64

// Add adds what o has counted.
func (t *Tally) Add(o Tally) {
	if *t == nil && o != nil {
		*t = make(Tally)
	}
	for kind, n := range o {
		(*t)[kind] += n
	}
}

// Sum returns how many things were counted.
func (t Tally) Sum() (sum int64) {
	for _, n := range t {
		sum += n
	}
	return sum
}
