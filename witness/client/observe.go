package client

import (
	"context"
	"errors"
	"net"
	"time"
)

// An Answer is what came of a request to a witness, for metrics. The set is closed.
type Answer string

// The answers.
const (
	AnswerCosigned Answer = "cosigned"
	AnswerConflict Answer = "conflict" // it knows another size of the log
	AnswerRefused  Answer = "refused"  // it does not know the log or its key, or thinks it forked
	AnswerLater    Answer = "later"    // 429 or 503
	AnswerTimeout  Answer = "timeout"
	AnswerFailed   Answer = "failed" // unreachable, or its answer is none
)

// Answers are all of them.
func Answers() []Answer {
	return []Answer{AnswerCosigned, AnswerConflict, AnswerRefused, AnswerLater, AnswerTimeout, AnswerFailed}
}

// An Exchange is one request for a cosignature of a witness.
type Exchange struct {
	Witness  string // its name in the policy
	Answer   Answer
	Duration time.Duration
	Hedge    bool // it was sent because another one was overdue
}

// observe tells Options.Observe what came of a request to e.
func (c *Client) observe(e *endpoint, d time.Duration, hedge bool, err error) {
	if c.observer == nil {
		return
	}
	a := answerOf(err)
	for _, w := range e.witnesses {
		c.observer(Exchange{Witness: w.Name, Answer: a, Duration: d, Hedge: hedge})
	}
}

func answerOf(err error) Answer {
	var conflict *conflictError
	var refused *RefusedError
	var later *laterError
	var network net.Error
	switch {
	case err == nil:
		return AnswerCosigned
	case errors.As(err, &conflict):
		return AnswerConflict
	case errors.As(err, &refused):
		return AnswerRefused
	case errors.As(err, &later):
		return AnswerLater
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return AnswerTimeout
	}
	return AnswerFailed
}
