//! What happens in one run, drawn from its seed.

use std::time::Duration;

/// A small generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True in `percent` of all cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    pub fn micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.below(to - from + 1))
    }
}

/// How a line treats packets until it gets quiet.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Percent of packets that are lost.
    pub loss: u64,
    /// Percent that come twice.
    pub doubled: u64,
    /// Every packet takes so long, and up to so much longer.
    pub delay: Duration,
    pub jitter: Duration,
}

/// One host.
#[derive(Debug, Clone)]
pub struct Part {
    /// Bytes that it sends.
    pub bytes: usize,
    /// It sends nothing before it has received so many.
    pub after: usize,
    pub receive: usize,
    pub send: usize,
    /// Longest IP packet.
    pub mtu: usize,
    /// It looks at what it has received only so often.
    pub reads: Duration,
    /// Its initial sequence number.
    pub isn: u32,
    /// It closes then, whatever is left.
    pub closes: Option<Duration>,
    /// It gives up then, with a RST.
    pub aborts: Option<Duration>,
}

/// What the server is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    Well,
    /// Nothing listens.
    Refuses,
    /// Nothing reaches it.
    Dead,
    /// Nothing reaches it before then.
    Late(Duration),
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Story {
    pub seed: u64,
    pub client: Part,
    pub server: Part,
    pub temper: Temper,
    pub weather: Weather,
    /// From then on nothing is lost.
    pub quiet: Duration,
    /// The first data are looked at.
    pub looks: bool,
    /// They will not do.
    pub wrong: bool,
    /// The manager dies then, and another one starts so much later.
    pub dies: Option<(Duration, Duration)>,
    /// The gate has heard the server before.
    pub known: bool,
    /// The agent denies every installation.
    pub denies: bool,
    /// The gate's own values.
    pub mss: u16,
    pub scale: u8,
    pub buffer: u32,
    pub hand_over: Duration,
}

const SIZES: [usize; 7] = [0, 1, 3, 700, 5_000, 20_000, 60_000];
const BUFFERS: [usize; 6] = [1_500, 3_000, 8_192, 32_768, 150_000, 600_000];

fn part(dice: &mut Dice) -> Part {
    let wraps = dice.percent(40);
    let isn = if wraps {
        u32::MAX - dice.below(30_000) as u32
    } else {
        dice.next() as u32
    };
    let moment = |dice: &mut Dice| dice.micros(0, 3_000_000);
    let closes = dice.percent(10).then(|| moment(dice));
    let aborts = dice.percent(7).then(|| moment(dice));
    Part {
        bytes: dice.one_of(&SIZES),
        after: 0,
        receive: dice.one_of(&BUFFERS),
        send: dice.one_of(&BUFFERS),
        mtu: dice.one_of(&[576, 1280, 1400, 1500, 1500, 1500]),
        reads: dice.one_of(&[Duration::ZERO, Duration::ZERO, Duration::from_millis(40)]),
        isn,
        closes,
        aborts,
    }
}

impl Story {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let dice = &mut dice;
        let (mut client, mut server) = (part(dice), part(dice));
        let looks = dice.percent(50);
        if looks && dice.percent(95) {
            client.bytes = client.bytes.max(8);
        }
        // Somebody must speak first.
        match dice.below(3) {
            0 if client.bytes > 0 => server.after = 1 + dice.below(client.bytes as u64) as usize,
            1 if server.bytes > 0 && !looks => {
                client.after = 1 + dice.below(server.bytes as u64) as usize;
            }
            _ => {}
        }
        let temper = match dice.below(100) {
            0..=3 => Temper::Refuses,
            4 => Temper::Dead,
            5..=8 => Temper::Late(dice.micros(0, 9_000_000)),
            _ => Temper::Well,
        };
        let buffer = dice.one_of(&[4_096, 32_768, 32_768]);
        let known = dice.percent(50);
        if !known {
            // Else more is offered in its name than it takes, and smoltcp 0.14 mistakes a FIN beyond a window
            // for the end.
            server.receive = server.receive.max(buffer as usize);
        }
        let fair = dice.percent(15);
        let bad = |dice: &mut Dice, most: u64| if fair { 0 } else { dice.below(most) };
        let weather = Weather {
            loss: bad(dice, 20),
            doubled: bad(dice, 10),
            delay: dice.micros(50, 40_000),
            jitter: Duration::from_micros(bad(dice, 30_000)),
        };
        Self {
            seed,
            client,
            server,
            temper,
            weather,
            quiet: dice.micros(1_000_000, 20_000_000),
            looks,
            wrong: looks && dice.percent(4),
            dies: (dice.percent(15))
                .then(|| (dice.micros(0, 2_000_000), dice.micros(0, 1_500_000))),
            denies: dice.percent(6),
            mss: dice.one_of(&[1460, 1460, 1360]),
            scale: dice.one_of(&[0, 2, 7, 7, 9]),
            buffer,
            known,
            hand_over: dice.one_of(&[Duration::from_millis(100), Duration::from_secs(10)]),
        }
    }

    /// Nothing stands between these two.
    pub fn is_fair(&self) -> bool {
        let quiet = |p: &Part| p.closes.is_none() && p.aborts.is_none();
        self.weather.loss == 0
            && self.weather.doubled == 0
            && self.weather.jitter.is_zero()
            && quiet(&self.client)
            && quiet(&self.server)
            && self.temper == Temper::Well
            && self.dies.is_none()
            && !self.wrong
            && (!self.looks || self.client.bytes >= 4)
    }
}
