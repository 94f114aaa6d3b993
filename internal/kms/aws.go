package kms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

const connectTimeout = 2 * time.Second

// maxRaw is how long a message may be that AWS hashes itself, as it does for Ed25519.
const maxRaw = 4096

// awsService is a key in the KMS of AWS.
type awsService struct {
	client *awskms.Client
	key    string // as the URI has it: permissions may be for the alias
	arn    string // of the key that it named when it was opened
}

// connectAWS finds region and credentials, in the environment, the shared files of AWS or the
// machine's role.
func connectAWS(ctx context.Context, r ref, l limits) (service, error) {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = l.calls, l.calls
	}).WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout })
	// The SDK's own log would go to the standard error.
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(client), config.WithLogger(logging.Nop{})}
	if r.region != "" {
		options = append(options, config.WithRegion(r.region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("reading AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, &failure{err: errors.New("no region"), hint: "add ?region=REGION to the key, or set AWS_REGION"}
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, &failure{err: fmt.Errorf("finding credentials: %w", err),
			hint: "AWS credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from AWS_PROFILE, or from the role of the machine"}
	}
	return &awsService{key: r.key, client: awskms.NewFromConfig(cfg, func(o *awskms.Options) {
		o.Retryer = awssdk.NopRetryer{} // see retry
		if r.endpoint != "" {
			o.BaseEndpoint = awssdk.String(r.endpoint)
		}
	})}, nil
}

func (s *awsService) String() string {
	if s.arn == "" {
		return s.key
	}
	return s.arn
}

func (s *awsService) publicKey(ctx context.Context) ([]byte, string, error) {
	out, err := s.client.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: &s.key})
	if err != nil {
		return nil, "", awsFailure(err)
	}
	if out.KeyUsage != types.KeyUsageTypeSignVerify {
		return nil, "", &failure{err: fmt.Errorf("key usage is %q", out.KeyUsage), hint: awsHints["InvalidKeyUsageException"]}
	}
	s.arn = awssdk.ToString(out.KeyId)
	return out.PublicKey, string(out.KeySpec), nil
}

func (s *awsService) sign(ctx context.Context, a algorithm, message []byte) ([]byte, string, error) {
	in := &awskms.SignInput{KeyId: &s.key, Message: message, MessageType: types.MessageTypeDigest,
		SigningAlgorithm: types.SigningAlgorithmSpec(a.name)}
	if a.hash == 0 {
		if len(message) > maxRaw {
			return nil, "", &failure{err: fmt.Errorf("message of %d bytes is longer than the %d that AWS signs with Ed25519", len(message), maxRaw),
				hint: "certificates are better signed with an ECDSA key"}
		}
		in.MessageType = types.MessageTypeRaw
	}
	out, err := s.client.Sign(ctx, in)
	if err != nil {
		return nil, "", awsFailure(err)
	}
	return out.Signature, awssdk.ToString(out.KeyId), nil
}

// awsHints say what to do about an answer.
var awsHints = map[string]string{
	"AccessDeniedException":         "the credentials in use need kms:GetPublicKey and kms:Sign on this key, by their own policy or by the key's",
	"NotFoundException":             "there is no such key in this account and region: look at its alias or ID, and at region",
	"DisabledException":             "enable the key",
	"KMSInvalidStateException":      "the key cannot sign in its state, such as pending deletion",
	"InvalidKeyUsageException":      "the key was not made for signatures: that takes key usage SIGN_VERIFY",
	"UnsupportedOperationException": "the key was not made for signatures: that takes key usage SIGN_VERIFY",
	"UnrecognizedClientException":   "AWS does not know these credentials",
	"InvalidSignatureException":     "the secret access key, or the clock of this machine, is wrong",
	"ExpiredTokenException":         "the credentials have expired",
}

// awsOverloaded are the answers with a status below 500 that may be others a moment later.
var awsOverloaded = map[string]bool{
	"ThrottlingException": true, "Throttling": true, "RequestLimitExceeded": true, "TooManyRequestsException": true,
	"LimitExceededException": true, "KMSInternalException": true, "DependencyTimeoutException": true,
	"KeyUnavailableException": true, "RequestTimeout": true,
}

func awsFailure(err error) error {
	status := 0
	if r, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = r.HTTPStatusCode()
	}
	api, ok := errors.AsType[smithy.APIError](err)
	switch {
	case status == 0:
		return unreachable(err)
	case status >= 500, status == http.StatusTooManyRequests, ok && awsOverloaded[api.ErrorCode()]:
		return &failure{err: err, hint: hintOverloaded, temporary: true}
	case ok:
		return &failure{err: err, hint: awsHints[api.ErrorCode()]}
	}
	return &failure{err: err, hint: hintUnreachable}
}
