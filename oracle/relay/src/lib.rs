//! A relay for hosts behind NAT, and the host's side of it.
//!
//! A host dials out to the relay and stays connected. The relay takes connections from the public, reads the server name that
//! TLS clients send in the clear, finds there which host is meant ([`name::operator`]), and passes the bytes on. TLS ends at
//! the host, pinned to its operator key (`datagalax_service::tls`): the relay can cut a connection, count its bytes and see
//! who asks whom, and nothing else.
//!
//! ```text
//! checker --TLS, SNI = base32(operator key).relay.example--> relay <--dialled out-- host
//!            1. ClientHello arrives, the name is looked up
//!            2. on the host's control connection: "open <token>"
//!            3. the host dials back and shows the token; from there on bytes pass both ways as they are
//! ```
//!
//! Each connection has a connection of its own behind the relay, dialled back by the host, instead of a place in a multiplexer
//! on one: no stream waits for another's lost packet or full window, the kernel does all flow control, and there is no
//! protocol between strangers to get wrong. It costs one more round trip between host and relay a connection.
//!
//! | file | holds |
//! |---|---|
//! | [`name`] | the label of a key, and back |
//! | [`hello`] | the server name of a ClientHello |
//! | [`admit`] | who may be a host of this relay |
//! | [`limits`] | every bound, and what keeps it |
//! | [`relay`] | the relay |
//! | [`tunnel`] | the host's side |

pub mod admit;
pub mod hello;
pub mod limits;
pub mod name;
pub mod relay;
mod splice;
pub mod tunnel;
mod wire;

pub use relay::Relay;
pub use tunnel::Tunnel;
