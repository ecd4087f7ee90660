package ceremony

import "errors"

// Errors that a caller acts on, by errors.Is. Those of package keys about components come as they are.
var (
	// ErrFormat says that bytes are no sealed component, or no record, or not as this package writes them.
	ErrFormat = errors.New("ceremony: wrong form")
	// ErrPlan says that a plan contradicts itself, or is not one for a ceremony.
	ErrPlan = errors.New("ceremony: not a valid plan")
	// ErrCustodian says that somebody is not the custodian that is wanted, or there already.
	ErrCustodian = errors.New("ceremony: not the custodian")
	// ErrOther says that a sealed component, a statement or a token is not of this ceremony.
	ErrOther = errors.New("ceremony: not of this ceremony")
	// ErrSealed says that a sealed component was altered, or sealed to another certificate: these cannot be told apart.
	ErrSealed = errors.New("ceremony: altered, or sealed to another certificate")
	// ErrExpired says that the time of the ceremony is over.
	ErrExpired = errors.New("ceremony: expired")
	// ErrDone says that the key of the ceremony was loaded before.
	ErrDone = errors.New("ceremony: the key was loaded before")
	// ErrMissing says that a component is not there yet.
	ErrMissing = errors.New("ceremony: component is missing")
)
