// The error of the library.

/** A refusal of the server, or a failure. */
export class HeartwireError extends Error {
  /**
   * @param {number} code docs/codes.md; 0: the client itself gave up
   * @param {string} message
   * @param {boolean} isUnknown whether it may have been done all the same
   * @param {string} reason the name of the code, of requests to streams
   */
  constructor(code, message, isUnknown = false, reason = "") {
    super(message || `code ${code}`);
    this.name = "HeartwireError";
    this.code = code;
    this.isUnknown = isUnknown;
    this.reason = reason;
  }
}
