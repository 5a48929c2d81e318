use super::*;

const AT: Duration = Duration::from_secs(10);

fn segment(flags: u8, seq: u32, ack: u32, window: u16, payload: &'static [u8]) -> Segment {
    let end = (std::net::IpAddr::from([10, 0, 0, 1]), 1);
    Segment {
        src: end,
        dst: end,
        seq,
        ack,
        flags,
        window,
        options: signalbox_manager::segment::Options::default(),
        payload: Bytes::from_static(payload),
    }
}

/// A leg that sends from 100 on and receives from 500 on, with a window of 1,000 both ways.
fn leg() -> Leg {
    let mut leg = Leg::new(100, 500, 10);
    let _ = leg.ack(1000);
    let mut sink = VecDeque::new();
    leg.hear(
        AT,
        &segment(ACK, 500, 100, 1000, b""),
        1000,
        Taking::All,
        &mut sink,
    );
    leg
}

fn hear(leg: &mut Leg, s: &Segment, taking: Taking, sink: &mut VecDeque<u8>) -> Heard {
    leg.hear(AT, s, 1000, taking, sink)
}

fn text(sink: &VecDeque<u8>) -> String {
    sink.iter().map(|b| char::from(*b)).collect()
}

// A3.10
#[test]
fn pieces_in_any_order_and_overlapping_become_the_stream() {
    let pieces: [(u32, &[u8]); 5] = [
        (0, b"abc"),
        (2, b"cdef"),
        (6, b"gh"),
        (4, b"efg"),
        (8, b"i"),
    ];
    // Every order of five.
    for order in 0..120usize {
        let mut left: Vec<_> = pieces.to_vec();
        let mut rest = order;
        let (mut leg, mut sink) = (leg(), VecDeque::new());
        for n in (1..=5).rev() {
            let (at, payload) = left.remove(rest % n);
            rest /= n;
            let s = segment(ACK, 500 + at, 100, 1000, payload);
            let heard = hear(&mut leg, &s, Taking::All, &mut sink);
            assert!(matches!(
                heard,
                Heard::Fine { answer: true, .. } | Heard::Answer
            ));
        }
        assert_eq!((text(&sink).as_str(), leg.rcv()), ("abcdefghi", 509));
    }
}

// A3.11
#[test]
fn told_to_take_nothing_it_acknowledges_nothing_new_and_what_is_known_again() {
    let (mut leg, mut sink) = (leg(), VecDeque::new());
    hear(
        &mut leg,
        &segment(ACK, 500, 100, 1000, b"old"),
        Taking::All,
        &mut sink,
    );
    let new = segment(ACK, 503, 100, 1000, b"new");
    let heard = hear(&mut leg, &new, Taking::Nothing, &mut sink);
    assert_eq!(
        heard,
        Heard::Fine {
            left: true,
            answer: false
        }
    );
    assert_eq!(leg.rcv(), 503);
    let old = segment(ACK, 500, 100, 1000, b"old");
    let heard = hear(&mut leg, &old, Taking::Nothing, &mut sink);
    assert_eq!(heard, Heard::Answer);
    assert_eq!(text(&sink), "old");
}

#[test]
fn a_reset_counts_with_the_next_number_alone() {
    let (mut leg, mut sink) = (leg(), VecDeque::new());
    let mut reset = |seq| {
        hear(
            &mut leg,
            &segment(RST, seq, 0, 0, b""),
            Taking::All,
            &mut sink,
        )
    };
    assert_eq!(reset(499), Heard::Nothing);
    assert_eq!(reset(501), Heard::Answer);
    assert_eq!(reset(1600), Heard::Nothing);
    assert_eq!(reset(500), Heard::Reset);
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let (mut leg, mut sink) = (leg(), VecDeque::new());
    let beyond = segment(ACK, 500, 101, 1000, b"data");
    assert_eq!(
        hear(&mut leg, &beyond, Taking::All, &mut sink),
        Heard::Beyond
    );
    assert!(sink.is_empty());
}

// A3.10
#[test]
fn lost_data_are_sent_again_after_the_time_out_or_three_equal_acknowledgements() {
    let (mut leg, mut sink, mut out) = (leg(), VecDeque::new(), Vec::new());
    leg.buffer_mut()
        .extend(b"0123456789abcdefghijABCDEFGHIJ0123456789");
    leg.speak(AT, 1000, &mut out);
    let sent: Vec<_> = out.drain(..).map(|w| (w.seq, w.payload.len())).collect();
    assert_eq!(sent, [(100, 10), (110, 10), (120, 10), (130, 10)]);
    for _ in 0..2 {
        hear(
            &mut leg,
            &segment(ACK, 500, 100, 1000, b""),
            Taking::All,
            &mut sink,
        );
        leg.speak(AT, 1000, &mut out);
        assert!(out.is_empty());
    }
    hear(
        &mut leg,
        &segment(ACK, 500, 100, 1000, b""),
        Taking::All,
        &mut sink,
    );
    leg.speak(AT, 1000, &mut out);
    assert_eq!(out.drain(..).map(|w| w.seq).collect::<Vec<_>>(), [100]);
    let at = leg.timer().unwrap();
    assert!(leg.timeout(at, 1000, &mut out));
    assert_eq!(out.drain(..).map(|w| w.seq).collect::<Vec<_>>(), [100]);
    assert!(
        leg.timer().unwrap() > at + Duration::from_secs(1),
        "and twice as late the next time"
    );
    hear(
        &mut leg,
        &segment(ACK, 500, 140, 1000, b""),
        Taking::All,
        &mut sink,
    );
    assert!(leg.is_quiet() && leg.timer().is_none());
}

#[test]
fn a_peer_that_never_acknowledges_counts_as_gone() {
    let (mut leg, mut out) = (leg(), Vec::new());
    leg.buffer_mut().extend(b"x");
    leg.speak(AT, 1000, &mut out);
    let mut times = 0;
    while leg
        .timer()
        .is_some_and(|at| leg.timeout(at, 1000, &mut out))
    {
        times += 1;
        assert!(times < 100);
    }
    assert_eq!(times, 10);
}

#[test]
fn a_closed_window_is_probed_and_an_open_one_used() {
    let (mut leg, mut sink, mut out) = (leg(), VecDeque::new(), Vec::new());
    hear(
        &mut leg,
        &segment(ACK, 500, 100, 0, b""),
        Taking::All,
        &mut sink,
    );
    leg.buffer_mut().extend(b"0123456789");
    leg.speak(AT, 1000, &mut out);
    assert!(out.is_empty());
    let at = leg.timer().unwrap();
    assert!(leg.timeout(at, 1000, &mut out));
    assert_eq!(out.pop().map(|w| (w.seq, w.payload.len())), Some((100, 1)));
    // It had no room, and has now.
    hear(
        &mut leg,
        &segment(ACK, 500, 100, 1000, b""),
        Taking::All,
        &mut sink,
    );
    leg.speak(at, 1000, &mut out);
    assert_eq!(out.pop().map(|w| (w.seq, w.payload.len())), Some((100, 10)));
}

#[test]
fn a_fin_follows_the_data_and_counts_as_one() {
    let (mut leg, mut sink, mut out) = (leg(), VecDeque::new(), Vec::new());
    leg.buffer_mut().extend(b"end");
    leg.finish();
    leg.speak(AT, 1000, &mut out);
    let last = out.pop().unwrap();
    assert_eq!(
        (last.seq, last.flags & FIN, &last.payload[..]),
        (100, FIN, &b"end"[..])
    );
    hear(
        &mut leg,
        &segment(ACK | FIN, 500, 103, 1000, b""),
        Taking::All,
        &mut sink,
    );
    assert!(
        leg.has_ended() && !leg.is_closed(),
        "our own FIN is not acknowledged"
    );
    hear(
        &mut leg,
        &segment(ACK, 501, 104, 1000, b""),
        Taking::All,
        &mut sink,
    );
    assert!(leg.is_closed());
    assert_eq!(leg.timer(), None);
}
