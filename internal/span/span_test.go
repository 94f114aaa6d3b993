package span_test

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"tallywood/internal/span"
)

func TestSpansBelowOthers(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(kept))
	ctx, root := provider.Tracer("test").Start(t.Context(), "root")
	_, other := provider.Tracer("test").Start(t.Context(), "other")

	below, s := span.Start(ctx, "child")
	s.Int("size", 7)
	s.Text("key", "k")
	at := span.At(below)
	s.End(errors.New("broken"))
	elsewhere, late := at.Start(context.Background(), "late", span.At(context.Background()), span.Point{})
	late.End(nil)
	if span.At(elsewhere).Traced() {
		t.Error("a span that has ended is recorded")
	}
	covered := trace.ContextWithSpan(span.Keep(ctx), noop.Span{})
	if span.At(trace.ContextWithSpan(ctx, noop.Span{})).Traced() || !span.At(covered).Traced() {
		t.Error("what was kept is not found, or something is that was not kept")
	}
	root.End()
	other.End()

	spans := kept.GetSpans()
	if len(spans) != 4 {
		t.Fatalf("%d spans", len(spans))
	}
	child, last := spans[0], spans[1]
	if child.Name != "child" || child.Parent.SpanID() != root.SpanContext().SpanID() || child.Status.Code != codes.Error ||
		child.Status.Description != "broken" || len(child.Attributes) != 2 {
		t.Errorf("%+v", child)
	}
	if last.Name != "late" || last.Parent.SpanID() != child.SpanContext.SpanID() || last.Status.Code != codes.Unset || len(last.Links) != 0 {
		t.Errorf("%+v", last)
	}
}

func TestPointLinksOthers(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	tracer := sdk.NewTracerProvider(sdk.WithSyncer(kept)).Tracer("test")
	first, a := tracer.Start(t.Context(), "a")
	second, b := tracer.Start(t.Context(), "b")
	_, s := span.At(first).Start(t.Context(), "both", span.At(second))
	s.End(nil)
	both := kept.GetSpans()[0]
	if both.Parent.SpanID() != a.SpanContext().SpanID() || len(both.Links) != 1 || both.Links[0].SpanContext.SpanID() != b.SpanContext().SpanID() {
		t.Errorf("%+v", both)
	}
}

// nothing makes no span, and must cost nothing.
func nothing(ctx context.Context) {
	ctx, s := span.Start(ctx, "child")
	s.Int("size", 7)
	s.Text("key", "k")
	at := span.At(span.Keep(ctx))
	_, late := at.Start(ctx, "late")
	late.End(nil)
	s.End(nil)
}

func TestNothingIsMadeBelowWhatIsNotRecorded(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(kept), sdk.WithSampler(sdk.NeverSample()))
	unsampled, _ := provider.Tracer("test").Start(t.Context(), "root")
	for _, ctx := range []context.Context{t.Context(), unsampled} {
		if n := testing.AllocsPerRun(100, func() { nothing(ctx) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
	if n := len(kept.GetSpans()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

func BenchmarkOff(b *testing.B) {
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		nothing(ctx)
	}
}
