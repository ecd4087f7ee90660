package strictjson_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/strictjson"
)

type thing struct {
	Name  string   `json:"Name"`
	Count int      `json:"Count"`
	Parts []string `json:"Parts"`
}

func TestRead(t *testing.T) {
	t.Parallel()
	var v thing
	if err := strictjson.Read([]byte(`{"Name":"a","Count":2,"Parts":["b"]}`), 100, false, &v); err != nil || v.Name != "a" || v.Count != 2 || len(v.Parts) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if err := strictjson.Read([]byte(`{"Name":""}`), 100, true, &v); err != nil {
		t.Errorf("an empty string where it may stand: %v", err)
	}
	for name, body := range map[string]string{
		"unknown": `{"Nome":"a"}`, "case": `{"name":"a"}`, "repeated": `{"Name":"a","Name":"b"}`, "null": `{"Name":null}`,
		"null in a list": `{"Parts":[null]}`, "empty": `{"Name":""}`, "trailing": `{"Name":"a"}x`, "two": `{} {}`, "array": `[]`,
		"type": `{"Count":"2"}`, "cut": `{"Name":"a"`, "nothing": ``, "deep": `{"Parts":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`,
	} {
		var v thing
		err := strictjson.Read([]byte(body), 100, false, &v)
		if _, ok := errors.AsType[*strictjson.Error](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := strictjson.Read([]byte(`{"Name":"a"}`), 5, false, &v); !errors.Is(err, strictjson.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}
