// A websocket that reconnects by itself and says whether it is up. The pages it feeds stay correct without it:
// every message is only a hint or a replay of rows, and `onDown` starts the slow polling.

export function connect(path, { onMessage, onUp = () => {}, onDown = () => {}, hello = () => null }) {
  let wait = 500;
  let socket = null;
  let closed = false;
  const open = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}${path}`);
    socket.addEventListener("open", () => {
      wait = 500;
      onUp();
      const first = hello();
      if (first) socket.send(JSON.stringify(first));
    });
    socket.addEventListener("message", (event) => onMessage(JSON.parse(event.data), socket));
    socket.addEventListener("close", (event) => {
      onDown(event.code);
      if (closed || event.code === 4404) return; // 4404: not (or no longer) allowed to see this
      setTimeout(open, wait + Math.random() * 250);
      wait = Math.min(wait * 2, 15000);
    });
  };
  open();
  addEventListener("pagehide", () => { closed = true; socket.close(); });
  return { send: (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message)) };
}
