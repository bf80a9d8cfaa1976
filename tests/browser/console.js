// Opens a page in Chromium and prints what it logs, a line each, until it is ended.
import { chromium } from 'playwright-core'

const browser = await chromium.launch({ executablePath: process.env.CAMPFIRE_CHROMIUM, args: ['--no-sandbox'] })
const page = await browser.newPage()
page.on('console', (message) => (message.type() === 'log' ? console.log(message.text()) : console.error(message.text())))
page.on('pageerror', (error) => console.error(error))
await page.goto(process.argv[2])
