//! Every bound of the server, each with its derivation.
//!
//! Used by all modules as `limits::NAME`; imports none. The submodules group the bounds by subject. A
//! bound that an operator may change is a flag in `config`. Its default and its range are here.

mod bus;
mod doctor;
mod http;
mod judging;
mod kv;
mod memory;
mod net;
mod presence;
mod process;
mod ring;
mod schemes;
mod shard;
mod sources;
mod stream;
mod tokens;

pub use self::bus::*;
pub use self::doctor::*;
pub use self::http::*;
pub use self::judging::*;
pub use self::kv::*;
pub use self::memory::*;
pub use self::net::*;
pub use self::presence::*;
pub use self::process::*;
pub use self::ring::*;
pub use self::schemes::*;
pub use self::shard::*;
pub use self::sources::*;
pub use self::stream::*;
pub use self::tokens::*;
