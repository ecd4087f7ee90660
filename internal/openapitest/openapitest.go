// Package openapitest holds documents in OpenAPI to the routes, the types and the exchanges of a service, in both directions.
package openapitest

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// Load reads a document, which must be whole and have examples that are of their schemas.
func Load(t testing.TB, path string) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile(path)
	if err == nil {
		err = doc.Validate(t.Context(), openapi3.EnableExamplesValidation())
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// Routes wants a document to have these routes, each METHOD PATH, and no others. Each has an example of what is asked, if there is a
// body, and of what is answered, and says what a refusal is.
func Routes(t testing.TB, doc *openapi3.T, want []string) {
	t.Helper()
	var got []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			got = append(got, method+" "+path)
			if op.RequestBody != nil && !exampled(op.RequestBody.Value.Content) {
				t.Errorf("%s %s has no example of a request", method, path)
			}
			if ok := op.Responses.Value("200"); ok == nil || !exampled(ok.Value.Content) || op.Responses.Default() == nil {
				t.Errorf("%s %s lacks an example of an answer, or what a refusal is", method, path)
			}
		}
	}
	want = slices.Sorted(slices.Values(want))
	slices.Sort(got)
	if len(want) == 0 || !slices.Equal(want, got) {
		t.Errorf("the document has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// exampled reports whether a body has an example for each of its types.
func exampled(c openapi3.Content) bool {
	for _, media := range c {
		if media.Example == nil {
			return false
		}
	}
	return len(c) > 0
}

// Members wants the schema of a name to have the members of a type and no others. Those whose tag has no options are required, unless
// the caller looks at that itself.
func Members(t testing.TB, doc *openapi3.T, name string, v any, required bool) {
	t.Helper()
	schema := doc.Components.Schemas[name]
	if schema == nil {
		t.Errorf("no schema %s", name)
		return
	}
	typ := reflect.TypeOf(v)
	var must, all, got []string
	for i := range typ.NumField() {
		member, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if member == "" {
			member = typ.Field(i).Name
		}
		if all = append(all, member); options == "" {
			must = append(must, member)
		}
	}
	for member := range schema.Value.Properties {
		got = append(got, member)
	}
	slices.Sort(all)
	slices.Sort(got)
	if closed := schema.Value.AdditionalProperties.Has; !slices.Equal(all, got) || closed == nil || *closed {
		t.Errorf("%s has %v, want %v and no more", name, got, all)
	}
	if required && !slices.Equal(must, schema.Value.Required) {
		t.Errorf("%s requires %v, want %v", name, schema.Value.Required, must)
	}
}

// Conforms holds a body of JSON to the schema of a content.
func Conforms(c openapi3.Content, body []byte) error {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	return c["application/json"].Schema.Value.VisitJSON(v)
}
