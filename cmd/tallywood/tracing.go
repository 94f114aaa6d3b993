package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// flushTimeout bounds the wait for spans to be sent at the end.
const flushTimeout = 5 * time.Second

// startTracing returns what begins the spans of requests, and sends them where the standard variables of
// OpenTelemetry say. Without such it returns nil. stop sends what is left.
func startTracing(ctx context.Context, getenv func(string) string, log *slog.Logger) (_ trace.Tracer, stop func(), err error) {
	wanted, err := tracingWanted(getenv)
	if err != nil || !wanted {
		return nil, func() {}, err
	}
	// It reads the endpoint, headers, certificates, compression and time-outs from the environment.
	var o []otlptracehttp.Option
	if endpoint(getenv) == "" {
		o = append(o, otlptracehttp.WithInsecure()) // http://localhost:4318, as the standard has it
	}
	exporter, err := otlptracehttp.New(ctx, o...)
	if err != nil {
		return nil, nil, fmt.Errorf("exporting traces: %w", err)
	}
	self, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "tallywood"), attribute.String("service.version", version)),
		resource.WithFromEnv()) // what is there counts more
	if err != nil {
		return nil, nil, fmt.Errorf("exporting traces: %w", err)
	}
	otel.SetErrorHandler(newRareErrors(log))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(self)) // the sampler is the environment's
	stop = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("sending the last traces", "err", err)
		}
	}
	return provider.Tracer("tallywood"), stop, nil
}

// endpoint is the receiver that the environment names.
func endpoint(getenv func(string) string) string {
	return cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

// tracingWanted reads the variables that switch traces on. What this program cannot do is an error:
// traces that never come would be looked for elsewhere.
func tracingWanted(getenv func(string) string) (bool, error) {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	switch exporter := getenv("OTEL_TRACES_EXPORTER"); {
	case exporter == "none", exporter == "" && endpoint(getenv) == "":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, fmt.Errorf("environment variable OTEL_TRACES_EXPORTER: %q is not otlp or none", exporter)
	}
	if p := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"); p != "http/protobuf" {
		return false, fmt.Errorf("environment variable OTEL_EXPORTER_OTLP_PROTOCOL: %q is not http/protobuf, the only one here", p)
	}
	switch s := getenv("OTEL_TRACES_SAMPLER"); s {
	case "", "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio":
		return true, nil
	default:
		return false, fmt.Errorf("environment variable OTEL_TRACES_SAMPLER: %q is not a sampler such as parentbased_traceidratio", s)
	}
}

// rareErrors logs errors of the exporter, at most one a minute: a receiver that is away makes one
// every few seconds.
type rareErrors struct {
	log *slog.Logger

	mu   sync.Mutex // guards last
	last time.Time
}

func newRareErrors(log *slog.Logger) *rareErrors { return &rareErrors{log: log} }

// Handle implements otel.ErrorHandler.
func (r *rareErrors) Handle(err error) {
	r.mu.Lock()
	rare := time.Since(r.last) >= time.Minute
	if rare {
		r.last = time.Now()
	}
	r.mu.Unlock()
	if rare {
		r.log.Warn("exporting traces", "err", err)
	}
}
