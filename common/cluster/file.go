package cluster

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/common/text"
)

// maxFile is the size in bytes beyond which a file is not read.
const maxFile = 1 << 20

// Load reads the properties file at path, and checks it against the rules of this
// package and more. A property that the file leaves out keeps its default; nodes,
// clients and mix are replaced as a whole. The environment variable LOCKSTEP_SECRET,
// unless empty, overrides the secret.
//
// An error names the file, the property, its value and what is allowed, and never
// shows a secret. If the file does not exist, the error wraps os.ErrNotExist, and the
// Config is Default with LOCKSTEP_SECRET, for callers that can do without the file.
func Load(path string, more ...Rules) (Config, error) {
	c := Default()
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, maxFile)); err == nil {
			c, err = parse(path, data, more...) // what is cut off by the limit has wrong syntax
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Config{}, err
	} else if err != nil {
		err = fmt.Errorf("%w; a file that holds {} keeps every default, and so does leaving out -config", err)
	}
	if c.Secret = cmp.Or(os.Getenv("LOCKSTEP_SECRET"), c.Secret); !isSecret(c.Secret) {
		return Config{}, fmt.Errorf("LOCKSTEP_SECRET: its value is not %s", ownRules["secret"].Allowed)
	}
	return c, err
}

// parse reads data, the content of the file at path.
func parse(path string, data []byte, more ...Rules) (Config, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // the byte order mark that some editors write
	c, dec := Default(), json.NewDecoder(bytes.NewReader(data))
	var syntax *json.SyntaxError
	err := json.Unmarshal(data, new(json.RawMessage))
	if !errors.As(err, &syntax) {
		err = c.root(more...).read(dec)
		syntax = &json.SyntaxError{Offset: dec.InputOffset()}
	}
	if err != nil {
		line := 1 + bytes.Count(data[:max(syntax.Offset, 1)-1], []byte("\n")) // of the last byte read
		return Config{}, fmt.Errorf("%s:%d: %w", path, line, err)
	}
	if err := c.Validate(more...); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// read reads the next JSON value, whose syntax is known to be right, into p. (Decoding
// into the struct would ignore the case of keys and accept repeated ones, merge lists
// with their defaults, and report errors in terms of Go's types.)
func (p property) read(dec *json.Decoder) error {
	parts, isList := p.parts(), p.value.Kind() == reflect.Slice
	if parts == nil && !isList {
		return p.readValue(dec)
	}
	if isList || p.value.Type() == reflect.TypeFor[Mix]() {
		p.value.SetZero()
	}
	token, _ := dec.Token()
	switch {
	case token == json.Delim('[') && isList:
		for i := 0; dec.More() && i <= maxProcesses; i++ { // check refuses more
			p.value.Set(reflect.Append(p.value, reflect.Zero(p.value.Type().Elem())))
			if err := p.parts()[i].read(dec); err != nil {
				return err
			}
		}
	case token == json.Delim('{') && !isList:
		for dec.More() {
			key, _ := dec.Token()
			path := join(p.path, key.(string))
			i := slices.IndexFunc(parts, func(part property) bool { return part.path == path })
			if i < 0 {
				return fmt.Errorf("%s: unknown or repeated field", text.Quote(path, 60))
			}
			if err := parts[i].read(dec); err != nil {
				return err
			}
			parts = slices.Delete(parts, i, i+1)
		}
	default:
		return p.refuse(strings.Replace(fmt.Sprint(token), "<nil>", "null", 1))
	}
	dec.Token() // the closing bracket
	return p.check()
}

// readValue reads a value that is neither a list nor an object.
func (p property) readValue(dec *json.Decoder) error {
	var raw json.RawMessage
	dec.Decode(&raw)
	given, isString := string(raw), raw[0] == '"'
	if isString == p.isNumber() && p.value.Type() != reflect.TypeFor[Size]() || given != strings.ToValidUTF8(given, "") {
		return p.refuse(given)
	}
	json.Unmarshal(raw, &given) // a number stays as it is
	return p.Set(given)
}

// isNumber reports whether the value is a number in JSON.
func (p property) isNumber() bool {
	return p.value.Kind() != reflect.String && json.Valid([]byte(p.String()))
}

// Save writes c, including its secret, to a file from which Load reads an equal Config.
// If the file is new, only its owner may read it.
func (c Config) Save(path string) error {
	data, _ := json.MarshalIndent(c, "", "  ") // of plain values, so there is no error
	return os.WriteFile(path, append(data, '\n'), 0o600)
}

// MarshalJSON writes every property, in the format of properties.json. That includes
// the secret: clear it in what other people are going to see.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.root().plain()) }

// plain returns what package json writes for p.
func (p property) plain() any {
	object := make(map[string]any)
	for _, part := range p.parts() {
		object[part.name()] = part.plain()
	}
	switch {
	case p.value.Kind() == reflect.Slice: // with [] rather than null for nil
		return reflect.AppendSlice(reflect.MakeSlice(p.value.Type(), 0, 0), p.value).Interface()
	case len(object) > 0:
		return object
	case p.isNumber():
		return json.Number(p.String())
	}
	return p.String()
}

// UnmarshalJSON reads what MarshalJSON wrote, as Load reads a file but without the
// environment's secret.
func (c *Config) UnmarshalJSON(data []byte) (err error) {
	*c, err = parse("config", data)
	return err
}

// A UsageError is a mistake in the command line.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Flags defines a flag for each property in a section of c, named as the last part of its
// path. The rules are those of this package and more; errors are as for a file.
func (c *Config) Flags(fs *flag.FlagSet, section string, more ...Rules) {
	for _, p := range c.root(more...).all() {
		if p.path == section+"."+p.name() {
			fs.Var(p, p.name(), p.rule().Doc+"; "+p.rule().Allowed)
		}
	}
}

// Values lists the properties in a section of c as NAME=VALUE, by name.
func (c Config) Values(section string) (all []string) {
	for _, p := range c.root().all() {
		if p.path == section+"."+p.name() {
			all = append(all, p.name()+"="+p.String())
		}
	}
	slices.Sort(all)
	return all
}

// Flag defines a flag for a value at p that is not a property, with a rule like that of one.
func Flag[T any](fs *flag.FlagSet, name string, p *T, rule Rule) {
	fs.Var(property{name, name, reflect.ValueOf(p).Elem(), Rules{name: rule}}, name, rule.Doc+"; "+rule.Allowed)
}

// ParseFlags reads the command line args and the configuration into c. The flags of fs
// override the file, and one of them, -config, sets *path. So the flags are parsed
// twice: first to find the file, and again after it is loaded. There need not be a file
// at DefaultPath; and without a flag -config, no file is read. The rules are those of this
// package and more.
//
// One argument for each word of arguments, such as "KEY [VALUE]", must follow the flags; those
// in brackets are optional, and dots stand for more. Without a flag -config, arguments are files,
// and flags may follow them.
// The error is flag.ErrHelp after -h, a UsageError, or that of Load. The caller prints
// it, so fs should use flag.ContinueOnError and discard its output.
func (c *Config) ParseFlags(fs *flag.FlagSet, args []string, path *string, arguments string, more ...Rules) error {
	err, words := fs.Parse(args), len(strings.Fields(arguments))
	if fs.Lookup("config") == nil { // arguments are files, and flags may follow them
		var files []string
		for err == nil && fs.NArg() > 0 {
			files = append(files, fs.Arg(0))
			err = fs.Parse(fs.Args()[1:])
		}
		err = cmp.Or(err, fs.Parse(append([]string{"--"}, files...)))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
	case fs.NArg() > 0 && arguments == "":
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case fs.NArg() > words && !strings.Contains(arguments, "...") || fs.NArg() < words-strings.Count(arguments, "["):
		command := fs.Name()[strings.LastIndex(fs.Name(), " ")+1:]
		err = fmt.Errorf("%s needs %s after the flags, got %s", command, strings.ReplaceAll(arguments, " ", " and "), text.Plural(int64(fs.NArg()), "argument"))
	}
	if err != nil {
		return UsageError{fmt.Errorf("%w (%s -h lists the flags)", err, fs.Name())}
	}
	if fs.Lookup("config") == nil {
		return nil
	}
	if *c, err = Load(*path, more...); err != nil && !(errors.Is(err, os.ErrNotExist) && *path == DefaultPath) {
		return err
	}
	return fs.Parse(args)
}

// A FlagGroup is a part of a help text: flags of one purpose. Names are separated by blanks;
// "*" stands for all that no earlier group names.
type FlagGroup struct{ Title, Names string }

// WriteFlags writes the flags of fs, group by group, in lines of at most 80 columns. It
// returns how many flags are in no group. A flag without a usage is internal, and does not count.
func WriteFlags(w io.Writer, fs *flag.FlagSet, groups []FlagGroup) (left int64) {
	var rest []*flag.Flag
	fs.VisitAll(func(f *flag.Flag) {
		if f.Usage != "" {
			rest = append(rest, f)
		}
	})
	for _, g := range groups {
		title := "\n" + g.Title + ":\n"
		for name := range strings.FieldsSeq(g.Names) {
			rest = slices.DeleteFunc(rest, func(f *flag.Flag) bool {
				if name != f.Name && name != "*" {
					return false
				}
				io.WriteString(w, title)
				title = "" // for the first flag only
				writeFlag(w, f)
				return true
			})
		}
	}
	return int64(len(rest))
}

// writeFlag writes what follows a flag, what it does, and its default.
func writeFlag(w io.Writer, f *flag.Flag) {
	const indent = 22
	arg, usage := flag.UnquoteUsage(f)
	_, notNumber := strconv.ParseFloat(f.DefValue, 64)
	_, notTime := time.ParseDuration(f.DefValue)
	switch {
	case arg != "value":
	case notNumber == nil:
		arg = "N"
	case notTime == nil:
		arg = "TIME"
	default:
		arg = f.Name
	}
	if f.DefValue != "" && f.DefValue != "false" {
		usage += " (default " + f.DefValue + ")"
	}
	head := strings.TrimSpace("  -" + f.Name + " " + strings.ToUpper(arg))
	if len(head) > indent-4 {
		head += "\n" + strings.Repeat(" ", indent)
	}
	lines := strings.TrimSuffix(text.Wrap(usage, text.Columns-indent), "\n")
	fmt.Fprintf(w, "  %-*s%s\n", indent-2, head, strings.ReplaceAll(lines, "\n", "\n"+strings.Repeat(" ", indent)))
}

// WriteHelp writes every property that has a rule to w: its path, default, allowed
// values and meaning. The rules are those of this package and more.
func WriteHelp(w io.Writer, more ...Rules) {
	c := Default()
	for _, p := range c.root(more...).all() {
		if r := p.rule(); r.Allowed != "" {
			fmt.Fprintf(w, "%-23s %-15s %s\n    %s\n", p.ruled, text.Quote(p.String(), 30), r.Allowed, r.Doc)
		}
	}
}
