// Package span makes the spans of traces (https://opentelemetry.io/docs/specs/otel/trace/api/) below
// others that are recorded.
//
// A span begins with Start below the one in a context, or with Point.Start below one elsewhere: where
// work goes on for somebody who waits in another goroutine. Where none is recorded, nothing is made
// and next to nothing is spent. Whoever receives requests makes the first span of a trace.
package span

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// scope is the name of what makes the spans.
const scope = "tallywood"

// A Span is a span that has begun. The zero Span is none.
type Span struct{ span trace.Span }

// Start begins a span below that of ctx, if that one is recorded. The context returned has it.
func Start(ctx context.Context, name string) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	return start(ctx, parent, name)
}

func start(ctx context.Context, parent trace.Span, name string, o ...trace.SpanStartOption) (context.Context, Span) {
	ctx, s := parent.TracerProvider().Tracer(scope).Start(ctx, name, o...)
	return ctx, Span{s}
}

// End ends the span, which failed unless err is nil.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// Int notes a number.
func (s Span) Int(key string, value int64) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int64(key, value))
	}
}

// Text notes a text.
func (s Span) Text(key, value string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// A Point is a span below which others may begin, even after its end. The zero Point is none.
type Point struct{ span trace.Span }

// At returns the span of ctx, or one that Keep kept, if it is recorded.
func At(ctx context.Context) Point {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		return Point{s}
	}
	p, _ := ctx.Value(kept{}).(Point)
	return p
}

type kept struct{}

// Keep returns a context in which At finds the span of ctx, whatever spans of its own a library puts
// there that records none.
func Keep(ctx context.Context) context.Context {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		return context.WithValue(ctx, kept{}, Point{s})
	}
	return ctx
}

// Traced reports whether there is a span.
func (p Point) Traced() bool { return p.span != nil }

// Start begins a span below p, if there is one, with links to those of others. Of the context it
// replaces the span alone.
func (p Point) Start(ctx context.Context, name string, others ...Point) (context.Context, Span) {
	if p.span == nil {
		return ctx, Span{}
	}
	var links []trace.Link
	for _, o := range others {
		if o.span != nil {
			links = append(links, trace.Link{SpanContext: o.span.SpanContext()})
		}
	}
	return start(trace.ContextWithSpan(ctx, p.span), p.span, name, trace.WithLinks(links...))
}
