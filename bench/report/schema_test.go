package report

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// The package comment lists each name in the JSON, and no other.
func TestSchema(t *testing.T) {
	source, err := os.ReadFile("report.go")
	if err != nil {
		t.Fatal(err)
	}
	listed, found := map[string]bool{}, map[string]bool{}
	within := ""
	for _, m := range regexp.MustCompile(`(?m)^//\t( *)\.([a-z0-9_.]+)`).FindAllSubmatch(source, -1) {
		if name := string(m[2]); len(m[1]) > 0 {
			listed[within+name] = true
		} else {
			listed[name], within = true, name+"[]."
		}
	}
	var add func(path string, typ reflect.Type)
	add = func(path string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			inner := f.Type
			if inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			switch {
			case f.Anonymous:
				add(path, f.Type)
			case name == "runs", name == "summary":
				add(name+"[].", inner)
			case name == "sweep":
				add(name+".", inner)
			case name == "-" || !f.IsExported():
			case listed[path+name], path == "summary[]." && listed["runs[]."+name]:
				found[path+name] = true
			default:
				t.Errorf("the package comment does not list %s%s", path, name)
			}
		}
	}
	add("", reflect.TypeFor[Report]())
	found["runs"], found["summary"] = true, true
	for path := range listed {
		if found[path] {
			continue
		}
		t.Errorf("the package comment lists %s, which is not in the JSON", path)
	}
}
