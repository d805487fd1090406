package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lockstep/common/text"
)

// A Rule says which values a property may have, and what the property means.
type Rule struct {
	Allowed string // what to write after "is not": "in 1..4096"
	Doc     string
	ok      func(value any) bool
}

// In returns the Rule that allows the values from lo to hi, both included. T must be
// the type of the property.
func In[T cmp.Ordered](lo, hi T, doc string) Rule {
	return Where(fmt.Sprintf("in %v..%v", lo, hi), doc, func(v T) bool { return lo <= v && v <= hi })
}

// Where returns the Rule that allows the values for which ok returns true. T must be
// the type of the property.
func Where[T any](allowed, doc string, ok func(T) bool) Rule {
	return Rule{allowed, doc, func(value any) bool { return ok(value.(T)) }}
}

// Rules holds rules by path: "server.workers", or "nodes[].addr" for all nodes.
type Rules map[string]Rule

const hostPort = "HOST:PORT with a port in 1..65535"

// ownRules are the rules for everything but the workload.
var ownRules = Rules{
	"nodes":             Where("a list of 1 to 100", "the servers", func(n []Node) bool { return 1 <= len(n) && len(n) <= maxProcesses }),
	"nodes[].addr":      Where(hostPort, "where a node serves clients", isHostPort),
	"nodes[].control":   Where(hostPort, "where a node answers barrier and stats questions", isHostPort),
	"nodes[].listen":    Where("empty or HOST:PORT", "where it listens instead, as behind NAT; there too at the port of control", func(s string) bool { return s == "" || isHostPort(s) }),
	"clients":           Where("a list of at most 100", "the client processes of a distributed run", func(c []Client) bool { return len(c) <= maxProcesses }),
	"clients[].control": Where(hostPort, "where a client process answers barrier questions", isHostPort),

	"server.workers":         In(1, 4096, "goroutines that execute requests (stages 3 and 4)"),
	"server.queue":           In(0, 1_000_000, "requests that may wait for a worker, before Busy is the answer"),
	"server.buckets":         In(1, 1_000_000, "tables, each behind its own lock (stage 4)"),
	"server.work":            Where(`in 0s..1m0s, or as "spin 1ms"`, "how long an operation sleeps, or computes (spin); storing a new key takes 0s", func(w Work) bool { return 0 <= w.Time && w.Time <= time.Minute }),
	"server.max_connections": In(1, 1_000_000, "connections open at the same time, not counting those without the secret"),
	"server.idle_timeout":    In(time.Millisecond, 24*time.Hour, "how long a connection may be silent between requests"),
	"server.frame_timeout":   In(time.Millisecond, time.Hour, "how long a request may take to arrive, from its first byte"),
	"server.write_timeout":   In(time.Millisecond, time.Hour, "how long a client may take to read answers"),
	"server.drain_timeout":   In(time.Millisecond, time.Hour, "how long a server may take to stop"),

	"secret": Where("at least 16 bytes long, in UTF-8", "needed off loopback; the same everywhere; LOCKSTEP_SECRET overrides it", isSecret),
}

var hostPattern = regexp.MustCompile(`^[\w.:%-]*$`)

func isHostPort(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && port == fmt.Sprint(n) && len(host) <= 253 && hostPattern.MatchString(host)
}

func isSecret(s string) bool { return s == "" || len(s) >= minSecret && utf8.ValidString(s) }

// A property is a part of a Config that has a path in properties.json: a value, or a
// list or an object of further properties. It is a flag.Value.
type property struct {
	path  string        // "nodes[1].addr", with "]." for every address; "" for the whole Config
	ruled string        // "nodes[].addr": the path of its rule
	value reflect.Value // addressable
	rules Rules
}

// root returns the property that is all of c, with the rules of this package and more.
func (c *Config) root(more ...Rules) property {
	rules := maps.Clone(ownRules)
	for _, r := range more {
		maps.Copy(rules, r)
	}
	return property{"", "", reflect.ValueOf(c).Elem(), rules}
}

// all returns p and every property in it.
func (p property) all() []property {
	found := []property{p}
	for _, part := range p.parts() {
		found = append(found, part.all()...)
	}
	return found
}

// parts returns the elements of a list, or the fields of an object, which is a struct
// with JSON tags. Work and Size have no tags: they are values, and have no parts.
func (p property) parts() (parts []property) {
	add := func(path, ruled string, value reflect.Value) {
		parts = append(parts, property{path, ruled, value, p.rules})
	}
	for i := 0; p.value.Kind() == reflect.Slice && i < p.value.Len(); i++ {
		add(fmt.Sprintf("%s[%d]", p.path, i), p.ruled+"[]", p.value.Index(i))
	}
	for i := 0; p.value.Kind() == reflect.Struct && i < p.value.NumField(); i++ {
		if tag, _, _ := strings.Cut(p.value.Type().Field(i).Tag.Get("json"), ","); tag != "" {
			add(join(p.path, tag), join(p.ruled, tag), p.value.Field(i))
		}
	}
	return parts
}

// join returns the path of the field called name of the object at path.
func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// name returns the last part of the path.
func (p property) name() string { return p.path[strings.LastIndex(p.path, ".")+1:] }

// rule returns the Rule for p, or the zero Rule, which allows everything.
func (p property) rule() Rule { return p.rules[p.ruled] }

// check returns an error if the value is not allowed.
func (p property) check() error {
	if r := p.rule(); r.ok == nil || r.ok(p.value.Interface()) {
		return nil
	}
	return p.refuse(p.String())
}

func (p property) refuse(given string) error {
	if p.path == "secret" {
		given = "its value" // which must not be shown
	}
	isNot, fresh := "is not", reflect.New(p.value.Type()).Interface()
	if convert(given, fresh) != nil && convert(given+"s", fresh) == nil {
		isNot = fmt.Sprintf("needs a unit, as in %ss or %sms: a time", given, given)
	}
	return fmt.Errorf("%s: %s %s %s", cmp.Or(p.path, "the file"), text.Quote(given, 60), isNot, cmp.Or(p.rule().Allowed, "of the right type"))
}

// String returns the value as text.
func (p property) String() string { return fmt.Sprint(p.value) }

// Set stores the value that given stands for. If that is not allowed, the old value stays.
func (p property) Set(given string) error {
	fresh := property{p.path, p.ruled, reflect.New(p.value.Type()).Elem(), p.rules}
	if convert(given, fresh.value.Addr().Interface()) != nil || fresh.check() != nil {
		return p.refuse(given)
	}
	p.value.Set(fresh.value)
	return nil
}

// convert stores the value that given stands for at place. It undoes fmt.Sprint.
func convert(given string, place any) (err error) {
	switch p := place.(type) {
	case *string:
		*p = given
	case *int:
		*p, err = strconv.Atoi(digits(given))
	case *uint64:
		*p, err = strconv.ParseUint(digits(given), 10, 64)
	case *float64:
		*p, err = strconv.ParseFloat(digits(given), 64)
	case *time.Duration:
		*p, err = time.ParseDuration(given)
	case *Work:
		given, p.Spin = strings.CutPrefix(given, "spin ")
		err = convert(given, &p.Time)
	case *Size:
		low, high, isRange := strings.Cut(given, "..")
		if !isRange {
			high = low
		}
		err = cmp.Or(convert(low, &p.Min), convert(high, &p.Max))
	case *Mix:
		fields := map[string]*int{"get": &p.Get, "put": &p.Put, "delete": &p.Delete, "cas": &p.CAS}
		for part := range strings.SplitSeq(strings.ReplaceAll(given, ":", "="), ",") {
			name, percent, _ := strings.Cut(part, "=")
			if fields[name] == nil { // or named before
				return strconv.ErrSyntax
			}
			err = cmp.Or(err, convert(percent, fields[name]))
			delete(fields, name)
		}
	}
	return err
}

// digits writes a whole number in digits, which programs may have written as 1e+06, and people
// as 5k.
func digits(number string) string {
	if thousands, ok := strings.CutSuffix(number, "k"); ok {
		number = thousands + "e3"
	}
	if f, err := strconv.ParseFloat(number, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 { // beyond, f is not exact
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return number
}
