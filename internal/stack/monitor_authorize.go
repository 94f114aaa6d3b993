package stack

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"tallywood/internal/config"
	"tallywood/log/verify"
	"tallywood/monitor"
	"tallywood/monitor/authorize"
	"tallywood/storage"
	"tallywood/witness/policy"
)

// monitorAuthorizations returns where the owners of identities list what they mean to sign, nil if
// none does.
func monitorAuthorizations(m *config.Monitor, state storage.Bucket) (monitor.Authorizations, error) {
	var ids []authorize.Identity
	var errs []error
	for _, id := range m.Identities {
		a := id.Expect.Authorize
		if a == nil {
			continue
		}
		v, err := authorizeVerifier(a)
		if err != nil {
			errs = append(errs, fmt.Errorf("identity %q: authorize: %w", id.Name, err))
		}
		ids = append(ids, authorize.Identity{Name: id.Name, From: a.From, Verifier: v})
	}
	if err := errors.Join(errs...); err != nil || len(ids) == 0 {
		return nil, err
	}
	return authorize.New(authorize.Options{Identities: ids, State: state})
}

// authorizeVerifier reads the keys or the trusted root that count on manifests.
func authorizeVerifier(a *config.Authorize) (*authorize.Verifier, error) {
	if a.Bundle != nil {
		return bundleVerifier(a.Bundle)
	}
	var vkeys []string
	for _, path := range a.Keys {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		some, err := authorize.ParseKeys(data)
		if err != nil {
			return nil, fmt.Errorf("keys: %s: %w", path, err)
		}
		vkeys = append(vkeys, some...)
	}
	slices.Sort(vkeys)
	v, err := authorize.NewKeys(slices.Compact(vkeys))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return v, nil
}

func bundleVerifier(b *config.AuthorizeBundle) (*authorize.Verifier, error) {
	o := verify.Options{Identity: b.Identity, Issuer: b.Issuer, NoPolicy: b.Policy == "none"}
	var err error
	if o.TrustedRoot, err = os.ReadFile(b.TrustedRoot); err != nil {
		return nil, fmt.Errorf("bundle: trusted_root: %w", err)
	}
	if !o.NoPolicy {
		text, err := os.ReadFile(b.Policy)
		if err != nil {
			return nil, fmt.Errorf("bundle: policy: %w", err)
		}
		if o.Policy, err = policy.Parse(text); err != nil {
			return nil, fmt.Errorf("bundle: policy %s: %w", b.Policy, err)
		}
	}
	v, err := authorize.NewBundle(o)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return v, nil
}
