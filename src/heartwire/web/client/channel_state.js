// One followed channel: its position, and which publications are new. heartwire/client/channel_state.py.

/** @typedef {{epoch: string, offset: number}} Position */

const samePosition = (a, b) => a.epoch === b.epoch && a.offset === b.offset;

export class ChannelState {
  isLive = false;
  isPaused = false;
  isServerSide = false;
  isPositioned = true;
  isWanted = true;
  refusals = 0;
  notBefore = 0;

  /** @param {Position | "earliest" | null} since */
  constructor(channel, since, token = "") {
    this.channel = channel;
    this.since = since;
    this.token = token;
    /** @type {Position | null} */
    this.position = typeof since === "object" ? since : null;
  }

  get wantsEarliest() {
    return this.position === null && this.since === "earliest";
  }

  /**
   * The server follows the channel for us. Returns both ends of the gap, or null. `asked` is the position at
   * the time of the request: another connection may have moved on since.
   * @returns {[Position, Position] | null}
   */
  subscribed({ epoch, offset, was_recovering: wasRecovering, recovered, publications }, asked) {
    this.isLive = true;
    this.isPositioned = epoch !== "";
    if (!this.isPositioned) return null;
    const before = this.position;
    const wantedEarliest = this.wantsEarliest;
    if (before !== null && wasRecovering && recovered) {
      // A channel in cache mode sends its newest and calls that recovered. The epoch is the same, or was not
      // known.
      this.position = { epoch, offset: Math.max(before.offset, (publications[0]?.offset ?? 0) - 1) };
      return this.position.offset === before.offset ? null : [before, this.position];
    }
    if (before === null) {
      this.position = { epoch, offset };
      return null;
    }
    const isOther = asked === null || !samePosition(before, asked);
    if (isOther && epoch === before.epoch && offset <= before.offset) return null;
    this.position = { epoch, offset };
    return wantedEarliest || samePosition(before, this.position) ? null : [before, this.position];
  }

  /**
   * The publications that are new. It stops before a hole: then the channel is not live, and has to be asked
   * for anew.
   */
  *news(pubs) {
    for (const pub of pubs) {
      const position = this.position;
      if (position === null || !this.isPositioned || !pub.offset) {
        yield pub; // a channel without history has no positions
      } else if (pub.offset === position.offset + 1) {
        this.position = { epoch: position.epoch, offset: pub.offset };
        yield pub;
      } else if (pub.offset > position.offset) {
        this.isLive = false;
        return;
      }
    }
  }

  lost() {
    this.isLive = false;
  }

  subscribeBody() {
    const { epoch, offset } = this.position ?? { epoch: "", offset: 0 };
    const from = { recover: true, epoch, offset, from_oldest: true };
    return {
      channel: this.channel,
      ...(this.token && { token: this.token }),
      ...(this.position !== null || this.wantsEarliest ? from : {}),
    };
  }

  /** The output for one publication. */
  delivered(pub) {
    const epoch = this.position !== null && pub.offset ? this.position.epoch : "";
    const { user, client } = pub.info ?? { user: "", client: "" };
    return [
      "Delivered",
      this.channel,
      epoch,
      pub.offset,
      pub.data,
      pub.tags.get("encoding") ?? "",
      user,
      client,
      pub.source,
    ];
  }
}
