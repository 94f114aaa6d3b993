package stack

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceContext is how traces go from one process to the next (https://www.w3.org/TR/trace-context/).
var traceContext propagation.TraceContext

// traced begins a span for each request to h, below that of the client if it says one. Without a
// tracer it is h.
func traced(tracer trace.Tracer, h http.Handler) http.Handler {
	if tracer == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		part, method := partOf(r.URL.Path), knownMethod(r.Method)
		ctx := traceContext.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, s := tracer.Start(ctx, method+" "+part, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", method), attribute.String("http.route", part)))
		defer s.End()
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(rec, r.WithContext(ctx))
		s.SetAttributes(attribute.Int("http.response.status_code", rec.status))
		if rec.status >= http.StatusInternalServerError {
			s.SetStatus(codes.Error, http.StatusText(rec.status))
		}
	})
}

// knownMethod is a method as spans name it: clients can make up others.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "_OTHER"
}

// sendTrace makes the span of a request that is passed on the parent of what its receiver makes.
func sendTrace(out *http.Request) {
	if trace.SpanFromContext(out.Context()).IsRecording() {
		traceContext.Inject(out.Context(), propagation.HeaderCarrier(out.Header))
	}
}
