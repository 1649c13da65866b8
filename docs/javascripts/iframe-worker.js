// Search where the site is opened from disk: browsers start no workers there, so a hidden frame does the work of one.
if (location.protocol === "file:") {
  const load = (page, address) =>
    new Promise((done, failed) => {
      const script = page.createElement("script")
      script.src = address
      script.onload = done
      script.onerror = () => failed(new Error(`${address} cannot be read`))
      page.head.append(script)
    })

  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.documentElement.append(frame)
      const inside = frame.contentWindow
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      inside.importScripts = async (...addresses) => {
        for (const each of addresses) await load(inside.document, new URL(each, address))
      }
      this.ready = load(inside.document, address)
      this.inside = inside
      this.frame = frame
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
