// Applies what gates have added up to a TCP header, once, with its checksum by the difference (RFC 1624). The
// acknowledgement number counts only with the ACK flag (RFC 9293, section 3.1), and the window of a SYN is
// never scaled (RFC 7323, section 2.2).

control Deltas(inout headers_t hdr, in deltas_t by) {
    bit<32> sequence;
    bit<32> acknowledgement;
    bit<16> window;

    // At most what the field holds; and never more than the receiver offers.
    action scale() {
        if (by.window_shift < 128) {
            if (window > (16w0xffff >> by.window_shift)) {
                window = 0xffff;
            } else {
                window = window << by.window_shift;
            }
        } else {
            window = window >> (0 - by.window_shift);
        }
    }

    action tcp() {
        sequence = hdr.tcp.sequence + by.sequence;
        acknowledgement = hdr.tcp.acknowledgement;
        window = hdr.tcp.window;
        if (hdr.tcp.flags[4:4] == 1) {
            acknowledgement = acknowledgement + by.acknowledgement;
        }
        if (hdr.tcp.flags[1:1] == 0) {
            scale();
        }
        hash(hdr.tcp.checksum, HashAlgorithm.csum16, 16w0,
            { ~hdr.tcp.checksum, ~hdr.tcp.sequence, ~hdr.tcp.acknowledgement, ~hdr.tcp.window,
              sequence, acknowledgement, window }, 32w65536);
        hdr.tcp.sequence = sequence;
        hdr.tcp.acknowledgement = acknowledgement;
        hdr.tcp.window = window;
    }

    apply {
        if (hdr.tcp.isValid()) {
            tcp();
        }
    }
}
