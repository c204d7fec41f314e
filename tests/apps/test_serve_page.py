#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The server's page in a real Chromium through WebDriver: a video, its frames, turns, stop, keys, languages, colours,
a phone's width, what stays after a reload. Screenshots go to $IVCHAT_SCREENSHOTS if that is set."""
import atexit
import base64
import os
import shutil
import signal
import sys
import threading
import time

import program
from program import NO_MODEL, Tap
from serverrig import VIDEO, Server

tap = Tap()
model = program.model()  # its frames and slow answers are looked at
try:
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.remote.remote_connection import RemoteConnection
except ImportError:
    # Debian's module belongs to Debian's Python, and the tests may run under another one
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/lib/python3/dist-packages/selenium"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", os.path.abspath(__file__)])
    tap.skip("page", "python3-selenium is not installed")
    tap.done()
ABSENT = [n for n in ("chromium", "chromedriver") if not shutil.which(n)]
if "chromium" in ABSENT and (shutil.which("google-chrome") or shutil.which("chromium-browser")):
    ABSENT.remove("chromium")
if not model or ABSENT:
    tap.skip("page", NO_MODEL if not model else "%s is not installed" % " and ".join(ABSENT))
    tap.done()

SHOTS = os.environ.get("IVCHAT_SCREENSHOTS") or program.path("shots")
os.makedirs(SHOTS, exist_ok=True)
MARK = "IVCHAT_PAGE_TEST=%d" % os.getpid()  # in the environment of every process of our browsers
HARD_LIMIT = float(os.environ.get("IVCHAT_PAGE_LIMIT") or 270)  # below the limit of the runner, which tells nothing
browsers = []


def slow():
    """How much longer things may take on a machine that does other work too."""
    return min(4.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def leftovers():
    """Ids of processes of our browsers that still run."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/environ" % pid, "rb") as f:
                ours = MARK.encode() in f.read().split(b"\0")
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                ours = ours or program.path("profile").encode() in f.read()
        except OSError:
            continue
        if ours and int(pid) != os.getpid():
            found.append(int(pid))
    return found


def kill_browsers():
    for pid in leftovers():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def showed():
    """What the page says and its console, as far as the browser still answers."""
    out = []
    for b in browsers[-1:]:
        try:
            out.append("page: " + b.execute_script(
                "return location.href + ' | ' + document.querySelector('#state').innerText + ' | ' + "
                "document.body.innerText.replace(/\\s+/g, ' ').slice(-600)"))
            out.append("console: %s" % b.get_log("browser")[-5:])
        except Exception as error:  # whatever it is, the test has failed already
            out.append("the page does not answer: %s" % (str(error).splitlines() or [repr(error)])[0][:200])
    return out


def give_up(why):
    """Fails with what the page showed and leaves nothing behind, whatever the main thread waits for."""
    told = []
    asking = threading.Thread(target=lambda: told.extend(showed()), daemon=True)
    asking.start()
    asking.join(10)
    tap.ok(False, "to the end", "\n".join([why] + (told or ["the page does not answer"])))
    kill_browsers()
    for s in Server.running:
        s.process.kill()
    program.SCRATCH.cleanup()
    print("1..%d" % tap.n, flush=True)
    os._exit(1)


def failed(kind, value, trace):
    sys.__excepthook__(kind, value, trace)
    give_up("%s: %s" % (kind.__name__, (str(value).splitlines() or [""])[0][:300]))


atexit.register(kill_browsers)
sys.excepthook = failed
signal.signal(signal.SIGTERM, lambda *_: give_up("ended by a signal"))
watchdog = threading.Timer(HARD_LIMIT, give_up, ["not done after %g s" % HARD_LIMIT])
watchdog.daemon = True
watchdog.start()
RemoteConnection.set_timeout(90)  # one command to the browser


def started(options):
    """A busy machine may need more than one try."""
    for left in (2, 1, 0):
        service = Service(shutil.which("chromedriver"), env=dict(os.environ, **dict([MARK.split("=")])))
        try:
            return webdriver.Chrome(service=service, options=options)
        except WebDriverException:
            service.stop()
            kill_browsers()
            if not left:
                raise


def browser(width, height, key=None, dark=False):
    o = webdriver.ChromeOptions()
    for x in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en-US",
              "--user-data-dir=%s" % program.path("profile%d" % len(browsers)), "--disable-extensions",
              "--disable-background-networking", "--no-first-run", "--window-size=%d,%d" % (width, height)):
        o.add_argument(x)
    o.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    b = started(o)
    browsers.append(b)
    b.set_page_load_timeout(80)
    b.set_script_timeout(60)
    b.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                      {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
    b.execute_cdp_cmd("Emulation.setEmulatedMedia",
                      {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
    if key:
        b.execute_cdp_cmd("Network.enable", {})
        b.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Authorization": "Basic " + base64.b64encode(
            ("x:" + key).encode()).decode()}})
    return b


def until(what, seconds=30):
    """The first true value of what(), asked again and again; None, with what the page showed, after too long."""
    end = time.monotonic() + seconds * slow()
    while time.monotonic() < end:
        try:
            value = what()
            if value:
                return value
        except WebDriverException:
            pass
        time.sleep(0.05)
    for line in ["waited in vain"] + showed():
        print("# " + line, flush=True)
    return None


def shot(b, name):
    b.save_screenshot(os.path.join(SHOTS, name + ".png"))
    return os.path.getsize(os.path.join(SHOTS, name + ".png")) > 5000


def by_id(b, name):
    return b.find_element(By.ID, name)


def turns(b, role):
    return b.execute_script("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)",
                            "#log .turn.%s p" % role)


def idle(b):
    return by_id(b, "send").is_displayed()


def ask(b, text):
    n = len(turns(b, "assistant"))
    by_id(b, "question").send_keys(text, Keys.ENTER)
    return until(lambda: len(turns(b, "assistant")) > n and idle(b))


def wide(b):
    return b.execute_script("return document.documentElement.scrollWidth > document.documentElement.clientWidth")


def back(b):
    return b.execute_script("return getComputedStyle(document.body).backgroundColor")


with Server("--metrics", "-n", "8", model=model) as s:
    home = "http://127.0.0.1:%d/" % s.port
    answers = {q: s.chat(q, max_tokens=8).content for q in ("Hello?",)}
    b = browser(1280, 860)
    b.get(home)
    tap.ok(until(lambda: "tiny" in by_id(b, "model").text or by_id(b, "model").text), "the page tells the model")
    examples = b.find_elements(By.CSS_SELECTOR, "#examples button")
    tap.ok(by_id(b, "empty").is_displayed() and len(examples) == 3 and shot(b, "desktop-empty"), "what to do is told")
    examples[1].click()
    tap.ok(by_id(b, "question").get_attribute("value") == examples[1].text and
           b.execute_script("return document.activeElement.id") == "question", "an example is put into the question's field")
    by_id(b, "question").clear()
    tap.ok(ask(b, "Hello?") and turns(b, "assistant") == [answers["Hello?"]] and turns(b, "user") == ["Hello?"],
           "a question and its answer", turns(b, "assistant"))
    tap.ok(not by_id(b, "empty").is_displayed() and b.title == "Hello? - ivchat", "the title is the question", b.title)

    # ---- a video
    by_id(b, "file").send_keys(VIDEO)
    frames = until(lambda: len(b.find_elements(By.CSS_SELECTOR, "#frames img")) == 8 and
                   b.find_elements(By.CSS_SELECTOR, "#frames img"))
    ident = s.get("/v1/videos").json["data"][0]["id"]
    told = s.get("/v1/videos/%s/frames" % ident).json
    tap.ok(frames and [f.get_attribute("src") for f in frames] == [f["image"] for f in told["frames"]] and
           all(b.execute_script("return arguments[0].naturalWidth", f) == told["width"] for f in frames),
           "thumbnails of exactly the frames that the model sees", told["video"])
    times = [e.text for e in b.find_elements(By.CSS_SELECTOR, "#frames .at")]
    tap.ok(times == ["%.2f s" % f["seconds"] for f in told["frames"]], "with their times", times)
    cells = b.find_elements(By.CSS_SELECTOR, "#frames li:first-child .grid span")
    tap.ok(len(cells) == 2 and "2 × 1" in by_id(b, "about").text and "whole" in by_id(b, "about").text and "96 × 64" in by_id(b, "about").text,
           "and the layout of the tiles", by_id(b, "about").text)
    tap.ok(turns(b, "user") == [], "a video begins a new conversation")
    ask(b, "What happens?")
    first = s.post("/v1/chat/completions", {"max_tokens": 8, "messages": [{"role": "user", "content": [
        {"type": "video", "id": ident}, {"type": "text", "text": "What happens?"}]}]}).content
    tap.ok(turns(b, "assistant") == [first], "an answer about the video", (turns(b, "assistant"), first))
    b.execute_script("window.old = document.querySelector('#log .turn.assistant'); window.spoken = []; new MutationObserver("
                     "m => { for (const x of m) for (const n of x.addedNodes) if (n.classList) spoken.push(n.className); })"
                     ".observe(document.querySelector('#log'), { childList: true })")
    ask(b, "Who is in it?")
    tap.ok(b.execute_script("return old.isConnected && spoken.join()") == "turn user,turn assistant live,turn assistant",
           "earlier turns stay as they are: nothing is read out twice", b.execute_script("return spoken"))
    second = s.post("/v1/chat/completions", {"max_tokens": 8, "messages": [
        {"role": "user", "content": [{"type": "video", "id": ident}, {"type": "text", "text": "What happens?"}]},
        {"role": "assistant", "content": first}, {"role": "user", "content": "Who is in it?"}]}).content
    tap.ok(turns(b, "assistant") == [first, second], "a second turn knows the first", turns(b, "assistant"))
    note = b.find_elements(By.CSS_SELECTOR, ".times")[0].text
    tap.ok("8 tokens" in note and "tokens/s" in note, "timings", note)
    tap.ok(b.execute_script("return [...document.querySelectorAll('.again')].length") == 1, "only the last is answered again")
    tap.ok(shot(b, "desktop-light") and back(b) == "rgb(246, 247, 249)" and not wide(b), "desktop, light", back(b))

    # ---- again, copy
    b.find_element(By.CSS_SELECTOR, ".again").click()
    tap.ok(until(lambda: idle(b) and turns(b, "assistant") == [first, second]) and
           len(turns(b, "user")) == 2, "the same question again")
    b.execute_cdp_cmd("Browser.grantPermissions", {"origin": home[:-1], "permissions": [
        "clipboardReadWrite", "clipboardSanitizedWrite"]})
    b.find_elements(By.CSS_SELECTOR, ".tools button")[0].click()
    tap.ok(until(lambda: b.find_elements(By.CSS_SELECTOR, ".tools button")[0].text == "Copied"), "copy says so")
    pasted = b.execute_async_script("navigator.clipboard.readText().then(arguments[0], e => arguments[0](String(e)))")
    tap.ok(pasted == first, "and the clipboard has it", pasted)

    # ---- parameters
    b.find_element(By.CSS_SELECTOR, "#settings summary").click()
    for name, value in (("num_frames", "4"), ("fix_ratio", "1x1")):
        by_id(b, name).send_keys(value, Keys.TAB)
    tap.ok(until(lambda: len(b.find_elements(By.CSS_SELECTOR, "#frames img")) == 4 and
                 len(b.find_elements(By.CSS_SELECTOR, "#frames li:first-child .grid span")) == 1),
           "other frames and tiles are shown at once")
    by_id(b, "max_tokens").send_keys("3", Keys.TAB)
    ask(b, "And now?")
    tap.ok("3 tokens" in b.find_elements(By.CSS_SELECTOR, ".times")[-1].text, "parameters count")

    for name, value in (("start", "1"), ("end", "2")):
        by_id(b, name).send_keys(value, Keys.TAB)
    part = until(lambda: [e.text for e in b.find_elements(By.CSS_SELECTOR, "#frames .at")][:1] not in ([], times[:1]) and
                 [float(e.text.split()[0]) for e in b.find_elements(By.CSS_SELECTOR, "#frames .at")])
    tap.ok(part and len(part) == 4 and 1 <= min(part) and max(part) <= 2, "a part of the video", part)
    for name in ("start", "end"):
        by_id(b, name).clear()
        by_id(b, name).send_keys(Keys.TAB)
    by_id(b, "temperature").clear()
    by_id(b, "temperature").send_keys("7")
    by_id(b, "question").send_keys("Warm?", Keys.ENTER)
    tap.ok(idle(b) and "Warm?" not in turns(b, "user") and b.execute_script("return document.activeElement.id") == "temperature",
           "a parameter out of range is shown, not sent")
    by_id(b, "temperature").clear()
    by_id(b, "temperature").send_keys("0", Keys.TAB)
    by_id(b, "question").clear()
    tap.ok(shot(b, "desktop-settings"), "settings")

    # ---- stop
    by_id(b, "max_tokens").clear()
    by_id(b, "max_tokens").send_keys("20000", Keys.TAB)
    b.execute_script("window.asked = []; const f = window.fetch; window.fetch = (u, o) => { if (o && o.body) { const x = "
                     "JSON.parse(o.body); x.ignore_eos = true; o.body = JSON.stringify(x); asked.push(x); } "
                     "return f(u, o); };")
    by_id(b, "question").send_keys("Tell me all", Keys.ENTER)
    until(lambda: len(turns(b, "assistant")) == 4 and len(turns(b, "assistant")[-1]) > 20)
    tap.ok(b.execute_script("return document.querySelectorAll('.turn.live').length === 1 && !document.querySelector('.turn.live "
                            ".tools') && document.querySelector('#log').getAttribute('aria-busy') === 'true'") and
           shot(b, "desktop-answering"), "an answer that is being written")
    long = until(lambda: len(turns(b, "assistant")[-1]) > 4000)
    below = b.execute_script("const l = document.querySelector('#log'); return l.scrollHeight - l.scrollTop - l.clientHeight")
    tap.ok(long and below < 200, "its end stays in sight", below)
    by_id(b, "stop").click()
    tap.ok(until(lambda: idle(b) and by_id(b, "doing").text == "Stopped", 10) and
           until(lambda: "ivchat_jobs_running 0" in s.get("/metrics").body.decode(), 10),
           "stop ends the answer and its work", by_id(b, "doing").text)
    asked = b.execute_script("return asked")
    tap.ok(asked[0]["max_tokens"] == 20000 and asked[0]["stream"] is True and
           len(asked[0]["messages"]) == 7 and asked[0]["media_io_kwargs"]["video"]["num_frames"] == 4,
           "what was sent", asked)
    by_id(b, "question").send_keys("Tell me all", Keys.ENTER)
    until(lambda: len(turns(b, "assistant")) >= 5 and len(turns(b, "assistant")[-1]) > 5)
    b.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    tap.ok(until(lambda: idle(b) and by_id(b, "doing").text == "Stopped", 10), "Escape stops too")

    # ---- kept in the browser
    before = turns(b, "assistant")
    b.get(home)
    tap.ok(until(lambda: turns(b, "assistant") == before) and
           until(lambda: len(b.find_elements(By.CSS_SELECTOR, "#frames img")) == 4), "a reload keeps conversation and video",
           turns(b, "assistant"))
    names = [e.text for e in b.find_elements(By.CSS_SELECTOR, "#talks li > button:first-child")]
    tap.ok(len(names) == 2 and "Hello?" in names and "What happens?" in names, "the list of conversations", names)
    b.find_elements(By.CSS_SELECTOR, "#talks li > button:first-child")[names.index("Hello?")].click()
    tap.ok(until(lambda: turns(b, "user") == ["Hello?"] and not b.find_elements(By.CSS_SELECTOR, "#frames img")),
           "another conversation, without the video", turns(b, "user"))
    b.find_elements(By.CSS_SELECTOR, "#talks li > button:last-child")[names.index("Hello?")].click()
    tap.ok(until(lambda: "Hello?" not in by_id(b, "talks").text), "is deleted")
    tap.ok(by_id(b, "undo").is_displayed() and b.execute_script("return document.activeElement.id") == "undo",
           "which can be undone")
    by_id(b, "undo").click()
    tap.ok(until(lambda: "Hello?" in by_id(b, "talks").text and turns(b, "user") == ["Hello?"]) and
           not by_id(b, "undo").is_displayed(), "and is")
    names = [e.text for e in b.find_elements(By.CSS_SELECTOR, "#talks li > button:first-child")]
    b.find_elements(By.CSS_SELECTOR, "#talks li > button:last-child")[names.index("Hello?")].click()
    until(lambda: "Hello?" not in by_id(b, "talks").text)
    huge = program.path("huge.mp4")
    with open(huge, "wb") as f:
        f.truncate(257 << 20)
    by_id(b, "file").send_keys(huge)
    tap.ok(until(lambda: "256 MiB" in by_id(b, "about").text), "a file beyond the limit is not sent", by_id(b, "about").text)

    # ---- what is no video; a video that is gone
    bad = program.path("bad.mp4")
    with open(bad, "w", encoding="ascii") as f:
        f.write("no video")
    by_id(b, "file").send_keys(bad)
    tap.ok(until(lambda: "not a video" in by_id(b, "about").text), "a file that is no video", by_id(b, "about").text)
    tap.ok("<" not in by_id(b, "about").text, "as text")
    b.execute_script("localStorage.setItem('ivchat.talks', JSON.stringify([{id:'x',media:{id:'video-gone',name:'<b>x</b>'},"
                     "turns:[{role:'user',content:'<img src=x onerror=alert(1)>'}]}]))")
    b.get(home)
    tap.ok(until(lambda: "no longer" in by_id(b, "about").text) and
           turns(b, "user") == ["<img src=x onerror=alert(1)>"], "a video that is gone; markup is text")
    b.execute_script("localStorage.clear()")

    # ---- languages and colours
    b.get(home)
    by_id(b, "language").send_keys("日本語")
    tap.ok(until(lambda: by_id(b, "send").text == "送信" and b.execute_script("return document.documentElement.lang") == "ja"),
           "Japanese", by_id(b, "send").text)
    missing = b.execute_script("const f = (a, b) => Object.keys(a).filter(k => !(k in b)); "
                               "return [...f(TEXTS.en, TEXTS.ja), ...f(TEXTS.ja, TEXTS.en)]")
    tap.ok(missing == [], "every text in both languages", missing)
    by_id(b, "theme").send_keys("ダーク")
    by_id(b, "file").send_keys(VIDEO)
    until(lambda: len(b.find_elements(By.CSS_SELECTOR, "#frames img")) == 8)
    ask(b, "何が起きますか。")
    tap.ok(until(lambda: back(b) == "rgb(20, 22, 26)") and shot(b, "desktop-dark-ja"), "dark", back(b))
    b.get(home)
    tap.ok(until(lambda: by_id(b, "send").text == "送信") and back(b) == "rgb(20, 22, 26)", "both are remembered")

    # ---- for keyboards and screen readers
    unnamed = b.execute_script("""
        const name = e => e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels[0] &&
          e.labels[0].textContent.trim());
        return [...document.querySelectorAll('button,input,select,textarea')].filter(
          e => e.id !== 'file' && !name(e)).map(e => e.id || e.outerHTML)""")
    tap.ok(unnamed == [], "every control has a name", unnamed)
    order = []
    b.execute_script("document.activeElement.blur()")
    for _ in range(14):
        webdriver.ActionChains(b).send_keys(Keys.TAB).perform()
        order.append(b.execute_script("const e = document.activeElement; return e.id || e.tagName"))
    tap.ok({"language", "theme", "pick", "new", "log", "question", "send"} <= set(order) and "file" not in order,
           "Tab reaches everything", order)
    roles = until(lambda: b.execute_script("const l = document.querySelector('#log'); return l.getAttribute('aria-live') === "
                                           "'polite' && [l.getAttribute('role'), document.querySelector('#state')"
                                           ".getAttribute('role')]"))
    tap.ok(roles == ["log", "status"],
           "answers and progress are announced", roles)
    contrast = b.execute_script("""
        const lum = c => { const v = c.match(/[0-9]+/g).slice(0, 3).map(x => (x /= 255) <= .03928 ? x / 12.92 :
          ((x + .055) / 1.055) ** 2.4); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
        const out = [];
        for (const dark of [false, true]) {
          document.documentElement.classList.toggle('dark', dark);
          for (const q of ['#model', '#send', 'h2', '#pick']) {
            let e = document.querySelector(q), back = e;
            const ink = lum(getComputedStyle(e).color);
            while (getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
            const b = lum(getComputedStyle(back).backgroundColor);
            out.push([q, dark, (Math.max(ink, b) + .05) / (Math.min(ink, b) + .05)]);
          }
        }
        return out.filter(x => x[2] < 4.5)""")
    tap.ok(contrast == [], "contrast of 4.5 and more in both colours", contrast)
    noise = [x["message"] for x in b.get_log("browser") if x["level"] in ("SEVERE", "WARNING") and
             not any(n in x["message"] for n in (" 404 ", " 415 "))]
    tap.ok(noise == [], "nothing on the browser's console: the policy fits", noise)
    b.quit()

    # ---- a phone
    b = browser(390, 844, dark=True)
    b.get(home)
    by_id(b, "file").send_keys(VIDEO)
    until(lambda: len(b.find_elements(By.CSS_SELECTOR, "#frames img")) == 8)
    ask(b, "What happens?")
    tap.ok(turns(b, "assistant") == [first] and not wide(b) and back(b) == "rgb(20, 22, 26)" and shot(b, "phone-dark"),
           "a phone's width, the system's dark", (wide(b), back(b)))
    place = b.execute_script("const r = document.querySelector('#log .turn.assistant').getBoundingClientRect(); return [r.top, "
                             "r.bottom, document.querySelector('#ask').getBoundingClientRect().top]")
    tap.ok(place[0] > 0 and place[1] <= place[2], "the answer is in sight, above the question's field", place)
    small = b.execute_script("return [...document.querySelectorAll('#send, #pick, #new, #language, #theme')].filter("
                             "e => e.getBoundingClientRect().height < 32).map(e => e.id)")
    tap.ok(small == [], "buttons that a finger hits", small)
    by_id(b, "theme").send_keys("Light")
    tap.ok(until(lambda: back(b) == "rgb(246, 247, 249)") and shot(b, "phone-light"), "light on the phone")
    b.quit()

with Server("--api-key", "-", stdin="page-key\n", model=model) as s:
    b = browser(1280, 860, key="page-key")
    b.get("http://127.0.0.1:%d/" % s.port)
    tap.ok(ask(b, "Hello?") and len(turns(b, "assistant")) == 1, "behind a key")
    b.quit()
tap.ok(until(lambda: not leftovers()), "no process of a browser is left", leftovers())
watchdog.cancel()
tap.done()
