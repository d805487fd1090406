package cluster

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxFile is the size in bytes above which a file is refused.
const maxFile = 1 << 20

// Load reads the properties file at path. What the file leaves out keeps its
// default; nodes, clients and mix replace theirs whole. The environment's
// LOCKSTEP_SECRET, unless empty, overrides the secret.
//
// An error names the file, the property, its value and what is allowed, and never
// shows a secret. If there is no such file, it wraps os.ErrNotExist, and the Config
// is Default with LOCKSTEP_SECRET, for a caller that goes on without a file.
func Load(path string) (Config, error) {
	c, err := load(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Config{}, err
	}
	if secret := os.Getenv("LOCKSTEP_SECRET"); secret != "" {
		c.Secret = secret
		if err := c.Validate(); err != nil {
			return Config{}, fmt.Errorf("LOCKSTEP_SECRET: %w", err)
		}
	}
	return c, err
}

func load(path string) (Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return Default(), fmt.Errorf("%w; a file that holds {} keeps every default, and so does no -config", err)
	}
	if err != nil {
		return Config{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, err
	}
	if len(data) > maxFile {
		return Config{}, fmt.Errorf("%s: the file is larger than %d bytes", path, maxFile)
	}
	return parse(path, data)
}

// parse reads data, which came from the file at path.
func parse(path string, data []byte) (Config, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors begin a file with it
	if len(bytes.TrimSpace(data)) == 0 {
		return Config{}, fmt.Errorf("%s: the file is empty; {} would keep every default", path)
	}
	at := func(offset int64, err error) error {
		line := 1 + bytes.Count(data[:max(offset, 1)-1], []byte("\n")) // of the last byte read
		return fmt.Errorf("%s:%d: %w", path, line, err)
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
		return Config{}, at(syntax.Offset, err)
	}
	c, dec := Default(), json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // a seed has more digits than a float64
	if err := c.read(dec, ""); err != nil {
		return Config{}, at(dec.InputOffset(), err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// read reads what stands at path; its syntax is known to be right. (Decoding into a
// struct would ignore the case and the repetition of keys, merge lists with their
// defaults, and speak of Go's types.)
func (c *Config) read(dec *json.Decoder, path string) error {
	token, _ := dec.Token()
	if err := c.accept(path, token); err != nil {
		return err
	}
	if token != json.Delim('{') && token != json.Delim('[') {
		return nil
	}
	seen := make(map[string]bool)
	for i := 0; dec.More(); i++ {
		child := fmt.Sprintf("%s[%d]", path, i)
		if token == json.Delim('{') {
			token, _ := dec.Token()
			key := fmt.Sprint(token)
			if key == "" || strings.ContainsAny(key, ".[") { // a path is no key
				return fmt.Errorf("%s: unknown field", show(key))
			}
			child = strings.TrimPrefix(path+"."+key, ".")
		}
		if seen[child] {
			return fmt.Errorf("%s: given twice", child)
		}
		seen[child] = true
		if err := c.read(dec, child); err != nil {
			return err
		}
	}
	dec.Token() // the closing bracket
	return nil
}

// accept stores the value at path. In place of a list or an object, token is the
// bracket that opens it, and accept makes room for what follows.
func (c *Config) accept(path string, token json.Token) error {
	switch {
	case path == "nodes" && token == json.Delim('['):
		c.Nodes = nil
		return nil
	case path == "clients" && token == json.Delim('['):
		c.Clients = nil
		return nil
	case path == fmt.Sprintf("nodes[%d]", len(c.Nodes)):
		c.Nodes = append(c.Nodes, Node{})
	case path == fmt.Sprintf("clients[%d]", len(c.Clients)):
		c.Clients = append(c.Clients, Client{})
	case path == "workload.mix":
		c.Workload.Mix = Mix{}
	}
	if max(len(c.Nodes), len(c.Clients)) > maxProcesses {
		return c.Validate() // now, before the table grows any more
	}
	_, isNumber := token.(json.Number)
	_, isString := token.(string)
	want := ""
	for _, p := range c.properties() {
		switch {
		case p.path == path && (isNumber && p.number || isString && (!p.number || p.either)):
			return p.Set(fmt.Sprint(token))
		case p.path == path && p.either:
			want = "a number or a string, " + p.allowed
		case p.path == path && p.number:
			want = "a number, " + p.allowed
		case p.path == path:
			want = "a string, " + p.allowed
		case strings.HasPrefix(p.path, path+"["):
			want = "a list"
		case path == "" || strings.HasPrefix(p.path, path+"."):
			want = "an object"
		}
	}
	found := show(fmt.Sprint(token))
	switch {
	case want == "":
		return fmt.Errorf("%s: unknown field", show(path))
	case want == "an object" && token == json.Delim('{'):
		return nil
	case path == "secret":
		found = "its value"
	case token == nil:
		found = "null"
	case isString:
		found = fmt.Sprintf("%.60q", token)
	}
	return fmt.Errorf("%s: %s is not %s", cmp.Or(path, "the file"), found, want)
}

// Save writes c, its secret included, to a file that Load reads back to an equal
// Config. If the file is new, only its owner may read it.
func (c Config) Save(path string) error {
	if err := c.Validate(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o600)
}

// MarshalJSON writes every property, in the format of properties.json. That
// includes the secret: empty it in what others are going to see.
func (c Config) MarshalJSON() ([]byte, error) {
	file := map[string]any{
		"nodes":   append([]Node{}, c.Nodes...), // [] rather than null
		"clients": append([]Client{}, c.Clients...),
	}
	for _, p := range c.properties()[len(c.addresses()):] {
		object, path := file, strings.Split(p.path, ".")
		for ; len(path) > 1; path = path[1:] {
			if object[path[0]] == nil {
				object[path[0]] = make(map[string]any)
			}
			object = object[path[0]].(map[string]any)
		}
		object[path[0]] = p.String()
		if p.number && !(p.either && strings.Contains(p.String(), "..")) {
			object[path[0]] = json.Number(p.String())
		}
	}
	return json.Marshal(file)
}

// UnmarshalJSON reads what MarshalJSON wrote, as Load reads a file, but for the
// environment's secret.
func (c *Config) UnmarshalJSON(data []byte) (err error) {
	*c, err = parse("config", data)
	return err
}
