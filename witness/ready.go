package witness

import "errors"

// NotSigning returns why the witness signs nothing for any log, and nothing if it does. The texts are
// for everyone; details that are not are in the log.
func (w *Witness) NotSigning() []string {
	var why []string
	if w.hasEnded() {
		why = append(why, "the witness can keep no state any more")
	}
	var foreign *LeaseError
	var hold *holdError
	switch err := w.leaseError(); {
	case errors.As(err, &foreign), errors.As(err, &hold):
		why = append(why, err.Error())
	case err != nil:
		why = append(why, "the lease beside the exported checkpoints could not be looked at yet")
	}
	if w.CheckKey() != nil {
		why = append(why, "the Ed25519 key cannot be used")
	}
	if len(w.signer.validAt(w.now().Unix())) == 0 {
		why = append(why, "no key is valid now")
	}
	return why
}
