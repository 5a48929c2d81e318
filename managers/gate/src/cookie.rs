//! SYN cookies: all that a gate must know of a client whose handshake is not complete, kept by the client in
//! the sequence number that it acknowledges (RFC 4987, section 3.6). A pure function of keys, tuple and time.
//!
//! 24 bits are a keyed hash (SipHash-2-4) of the tuple, the client's initial sequence number, the time, what
//! the cookie says, and what the gate has announced; 2 bits tell the time, 2 the client's MSS, 4 its window
//! scale.

use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

use siphasher::sip::SipHasher24;

/// How long one number of time lasts.
const SLOT: Duration = Duration::from_secs(32);
/// A cookie holds in its own slot and in so many after it.
const SLOTS: u64 = 1;
/// A key that has been replaced is good for as long as cookies made with it.
pub const OVERLAP: Duration = SLOT.saturating_mul(2);
/// Classes of MSS, by family: the greatest that is not above the client's counts. What is below the least is
/// treated as the least, which every host must take (RFC 9293, section 3.7.1; RFC 8200, section 5).
const MSS_V4: [u16; 4] = [536, 1300, 1440, 1460];
const MSS_V6: [u16; 4] = [1220, 1280, 1420, 1440];
/// In place of a window scale: the client offered none.
const NO_SCALE: u8 = 15;

/// What a client's SYN said, as far as a cookie keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Longest segment that the client takes; one of a few classes.
    pub mss: u16,
    /// Its window scale, if it offered one.
    pub scale: Option<u8>,
}

/// What the gate's SYN-ACK said in the server's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Longest segment that the server is believed to take.
    pub mss: u16,
    /// Its window scale; `None` if it knows none.
    pub scale: Option<u8>,
}

/// A connection that has not begun yet.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// The client's address and port.
    pub client: (IpAddr, u16),
    /// The server's.
    pub server: (IpAddr, u16),
    /// The client's initial sequence number.
    pub isn: u32,
}

/// Why an acknowledgement opens no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It was a cookie once.
    Old,
    /// It never was one of these keys.
    Forged,
}

type Key = [u8; 16];

/// The secret keys of a gate's cookies.
#[derive(Clone)]
pub struct Keys {
    current: Key,
    previous: Option<(Key, Duration)>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys are secret, in logs, too.
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Offered {
    /// What is kept of a SYN's options.
    #[must_use]
    pub fn of(family: IpAddr, mss: Option<u16>, scale: Option<u8>) -> Self {
        let classes = classes(family);
        // Without the option it is 536, of IPv6 1220 (RFC 9293, section 3.7.1, MUST-15).
        let mss = (classes.iter().rev().copied())
            .find(|class| mss.is_some_and(|mss| *class <= mss))
            .or(classes.first().copied())
            .unwrap_or(536);
        Self { mss, scale }
    }

    fn bits(self, family: IpAddr) -> u32 {
        let class = classes(family).iter().position(|c| *c == self.mss);
        let class = u32::try_from(class.unwrap_or(0)).unwrap_or(0);
        class << 4 | u32::from(self.scale.unwrap_or(NO_SCALE))
    }

    fn from_bits(family: IpAddr, bits: u32) -> Self {
        let class = classes(family).get((bits >> 4 & 3) as usize).copied();
        let scale = u8::try_from(bits & 15).unwrap_or(NO_SCALE);
        Self {
            mss: class.unwrap_or(536),
            scale: (scale != NO_SCALE).then_some(scale),
        }
    }
}

fn classes(family: IpAddr) -> [u16; 4] {
    if family.is_ipv4() { MSS_V4 } else { MSS_V6 }
}

fn slot(now: Duration) -> u64 {
    now.as_secs() / SLOT.as_secs()
}

impl Keys {
    /// Begins with this key, of bytes that nobody can guess.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self {
            current: key,
            previous: None,
        }
    }

    /// New cookies are made with this key; those of the former one hold until they are old.
    pub fn rotate(&mut self, now: Duration, key: Key) {
        self.previous = Some((self.current, now + OVERLAP));
        self.current = key;
    }

    /// The initial sequence number that answers a SYN.
    #[must_use]
    pub fn make(
        &self,
        now: Duration,
        opening: &Opening,
        offered: Offered,
        announced: Announced,
    ) -> u32 {
        let slot = slot(now);
        let bits = offered.bits(opening.client.0);
        let low = (slot as u32 & 3) << 6 | bits;
        mac(&self.current, slot, opening, bits, announced) << 8 | low
    }

    /// What a client had offered that acknowledges this cookie, and which of the `candidates` the gate had
    /// announced to it.
    ///
    /// # Errors
    /// The cookie is old, or none.
    pub fn check(
        &self,
        now: Duration,
        opening: &Opening,
        cookie: u32,
        candidates: impl Iterator<Item = Announced> + Clone,
    ) -> Result<(Offered, Announced), Refusal> {
        let current = slot(now);
        let age = current.wrapping_sub(u64::from(cookie >> 6 & 3)) & 3;
        let made = current.wrapping_sub(age);
        let bits = cookie & 0x3f;
        let previous = (self.previous.as_ref())
            .filter(|(_, until)| now < *until)
            .map(|(key, _)| key);
        for key in std::iter::once(&self.current).chain(previous) {
            for announced in candidates.clone() {
                if mac(key, made, opening, bits, announced) == cookie >> 8 {
                    if age > SLOTS {
                        return Err(Refusal::Old);
                    }
                    return Ok((Offered::from_bits(opening.client.0, bits), announced));
                }
            }
        }
        Err(Refusal::Forged)
    }
}

/// 24 bits.
fn mac(key: &Key, slot: u64, opening: &Opening, bits: u32, announced: Announced) -> u32 {
    let mut hasher = SipHasher24::new_with_key(key);
    for (address, port) in [opening.client, opening.server] {
        match address {
            IpAddr::V4(a) => hasher.write(&a.octets()),
            IpAddr::V6(a) => hasher.write(&a.octets()),
        }
        hasher.write(&port.to_be_bytes());
    }
    hasher.write(&opening.isn.to_be_bytes());
    hasher.write(&slot.to_be_bytes());
    hasher.write(&bits.to_be_bytes());
    hasher.write(&announced.mss.to_be_bytes());
    hasher.write(&[announced.scale.unwrap_or(NO_SCALE)]);
    (hasher.finish() >> 40) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(1000);
    const OURS: Announced = Announced {
        mss: 1460,
        scale: Some(7),
    };

    fn opening(isn: u32) -> Opening {
        Opening {
            client: (IpAddr::from([203, 0, 113, 9]), 40_000),
            server: (IpAddr::from([10, 0, 1, 5]), 22),
            isn,
        }
    }

    fn offer(mss: u16, scale: Option<u8>) -> Offered {
        Offered::of(IpAddr::from([0; 4]), Some(mss), scale)
    }

    fn check(keys: &Keys, at: Duration, o: &Opening, cookie: u32) -> Result<Offered, Refusal> {
        let list = [OURS];
        keys.check(at, o, cookie, list.into_iter()).map(|(o, _)| o)
    }

    // A3.3
    #[test]
    fn a_cookie_brings_back_mss_class_and_window_scale() {
        let keys = Keys::new([7; 16]);
        for scale in [None, Some(0), Some(7), Some(14)] {
            for (mss, class) in [
                (100, 536),
                (536, 536),
                (1399, 1300),
                (1459, 1440),
                (9000, 1460),
            ] {
                let wanted = offer(mss, scale);
                assert_eq!(wanted.mss, class);
                let cookie = keys.make(AT, &opening(5), wanted, OURS);
                assert_eq!(check(&keys, AT, &opening(5), cookie), Ok(wanted));
            }
        }
        let v6 = IpAddr::from([0u16; 8]);
        assert_eq!(Offered::of(v6, None, None).mss, 1220);
        assert_eq!(Offered::of(v6, Some(1440), None).mss, 1440);
    }

    // A3.3
    #[test]
    fn of_the_24_bits_no_guess_is_better_than_another() {
        let keys = Keys::new([7; 16]);
        let cookie = keys.make(AT, &opening(5), offer(1460, None), OURS);
        let guesses = (0..1u32 << 20).map(|n| cookie ^ (n + 1) << 8);
        let hits = guesses.filter(|g| check(&keys, AT, &opening(5), *g).is_ok());
        assert_eq!(hits.count(), 0);
        // Each part of the connection counts.
        let mut other = opening(6);
        assert_eq!(check(&keys, AT, &other, cookie), Err(Refusal::Forged));
        other = opening(5);
        other.client.1 += 1;
        assert_eq!(check(&keys, AT, &other, cookie), Err(Refusal::Forged));
        other = opening(5);
        other.server.0 = IpAddr::from([10, 0, 1, 6]);
        assert_eq!(check(&keys, AT, &other, cookie), Err(Refusal::Forged));
        for bit in 0..8 {
            let forged = check(&keys, AT, &opening(5), cookie ^ 1 << bit);
            assert_eq!(forged, Err(Refusal::Forged), "bit {bit}");
        }
    }

    // A3.3
    #[test]
    fn a_cookie_holds_for_half_a_minute_and_then_is_old() {
        let keys = Keys::new([7; 16]);
        for offset in 0..32 {
            let made = AT + Duration::from_secs(offset);
            let cookie = keys.make(made, &opening(5), offer(1460, None), OURS);
            let after = |s| check(&keys, made + Duration::from_secs(s), &opening(5), cookie);
            assert!(after(32).is_ok());
            assert_eq!(after(64), Err(Refusal::Old));
            assert_eq!(after(32 * 4), Err(Refusal::Forged), "of another time");
        }
    }

    // A3.3
    #[test]
    fn a_replaced_key_is_good_until_its_cookies_are_old() {
        let mut keys = Keys::new([7; 16]);
        let cookie = keys.make(AT, &opening(5), offer(1460, None), OURS);
        keys.rotate(AT, [8; 16]);
        let soon = AT + Duration::from_secs(20);
        assert!(check(&keys, soon, &opening(5), cookie).is_ok());
        keys.rotate(soon, [9; 16]);
        assert_eq!(
            check(&keys, soon, &opening(5), cookie),
            Err(Refusal::Forged)
        );
        let cookie = keys.make(soon, &opening(5), offer(1460, None), OURS);
        assert!(check(&keys, soon, &opening(5), cookie).is_ok());
    }

    // A3.7
    #[test]
    fn a_cookie_tells_what_was_announced_with_it() {
        let keys = Keys::new([7; 16]);
        let now = Announced {
            mss: 1400,
            scale: Some(2),
        };
        let cookie = keys.make(AT, &opening(5), offer(1460, Some(3)), OURS);
        let list = [now, OURS];
        let got = keys.check(AT, &opening(5), cookie, list.into_iter());
        assert_eq!(got, Ok((offer(1460, Some(3)), OURS)));
        let got = keys.check(AT, &opening(5), cookie, [now].into_iter());
        assert_eq!(got, Err(Refusal::Forged));
    }
}
